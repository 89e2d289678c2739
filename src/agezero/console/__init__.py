"""The console: the service for people with a browser. Pages rendered here, on the services that the API stands on; no logic of its own."""
