"""Systems of several graphs under a driver: each side, each call, and what comes out in the end."""
