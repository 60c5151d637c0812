"""Small tools that know nothing of attacks or defenses."""
