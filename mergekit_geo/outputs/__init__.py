"""How an output appears, whole or not at all: place, layout, writer, upload."""
