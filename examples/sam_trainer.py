"""Fine-tune a causal language model on a text file: python sam_trainer.py MODEL TEXT OUT."""

import sys

import transformers as hf
from datasets import load_dataset

import mergekit_geo as geo

name, text, out = sys.argv[1:]
tokenizer = hf.AutoTokenizer.from_pretrained(name)
rows = load_dataset("text", data_files=text, split="train").filter(lambda row: row["text"].strip())
rows = rows.map(lambda row: tokenizer(row["text"], truncation=True, max_length=64))

trainer = geo.SamTrainer(
    model=hf.AutoModelForCausalLM.from_pretrained(name, dtype="float32"),
    args=hf.TrainingArguments(out, max_steps=20, learning_rate=1e-3, gradient_accumulation_steps=2),
    sam=geo.SamArguments(rho=0.05),
    train_dataset=rows,
    data_collator=hf.DataCollatorForLanguageModeling(tokenizer, mlm=False),
    processing_class=tokenizer,
)
trainer.train()
trainer.save_model(out)
print(trainer.sam_summary)
