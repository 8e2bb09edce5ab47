"""What the HTTP services of the project share: problem documents, the bearer guard, listening."""
