"""Packages, licences, dialogs and sample data: what the first use needs."""
