"""Tasks of lm-evaluation-harness (`lm-eval:TASK`) as what a model is measured on."""
