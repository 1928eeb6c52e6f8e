"""Who may do what, and who sees whose data. Pure: HTTP is in plugin.service, keys and sessions come through ports."""
