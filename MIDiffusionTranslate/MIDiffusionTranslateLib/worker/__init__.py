"""The worker process seen from the application: its folder, its pipes, its jobs and events."""
