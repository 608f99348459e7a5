"""What is computed: prompts to tokens, rows to logits, through a quantised base and its adapter."""
