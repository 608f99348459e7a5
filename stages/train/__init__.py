"""The stage `train`: QLoRA fine-tuning of one backbone on one fold."""
