"""Services that run until they are stopped, apart from the command line around them."""
