"""What tests stand on: one module a matter, none of them a test."""
