"""What tests share: rigs, programs, fault injection."""
