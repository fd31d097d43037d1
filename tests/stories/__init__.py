"""The stories of DESIGN §1, end to end: real processes, real servers, a real browser, and ``kill -9``."""
