"""What keeps a daemon honest towards its operator: health (``health``) and systemd (``notify``)."""
