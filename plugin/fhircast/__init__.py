"""FHIRcast 3.0, the hub's side: which report, study and phrase a person has before them, told among their programs.

Pure: what a topic is and what an event does to it. HTTP and web sockets are in :mod:`plugin.service.hub`.
"""
