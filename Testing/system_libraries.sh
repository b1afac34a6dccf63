#!/bin/sh
# Qt's wheels leave a few libraries to the system. Says which package is missing where one is, and
# installs it on Debian and Ubuntu when run as root. PY names the interpreter that has PySide6.
set -u
packages="libdbus-1-3 libegl1 libfontconfig1 libgl1 libglib2.0-0 libxkbcommon0"

starts() {
    QT_QPA_PLATFORM=offscreen "$PY" -c '
from PySide6 import QtUiTools, QtWidgets
QtWidgets.QApplication([])
'
}

if starts >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing the system libraries that Qt needs: $packages"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages
fi
if starts; then
    exit 0
fi
echo "error: Qt can't start, see above; on Debian or Ubuntu: sudo apt-get install $packages" >&2
exit 1
