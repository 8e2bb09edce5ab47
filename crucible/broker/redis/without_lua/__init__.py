"""The atomic operations as transactions, where ``CRUCIBLE_CLAIM=brpop``."""
