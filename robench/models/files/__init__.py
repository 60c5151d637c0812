"""Files of weights that anybody saved: what kind they are, what is in them, and which of it is a network's."""
