"""A worker as remote control and Flower see it: a node with events, commands and neighbours."""
