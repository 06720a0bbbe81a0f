"""The Python call: the LLC of a model of one's own, by the code that the workflows run."""
