"""Claims on messages: taken, renewed, ended, delayed, swept, buried."""
