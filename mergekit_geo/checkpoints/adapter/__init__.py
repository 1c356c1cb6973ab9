"""LoRA adapters as checkpoints: a base and low-rank factors."""
