"""How an output appears, whole or not at all: layout, writer, workspace, upload."""
