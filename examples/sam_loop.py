"""Fine-tune a causal language model on a text file: python sam_loop.py MODEL TEXT OUT."""

import sys
from pathlib import Path

import torch
import transformers as hf
from accelerate import Accelerator

import mergekit_geo as geo

name, text, out = sys.argv[1:]
ids = hf.AutoTokenizer.from_pretrained(name)(Path(text).read_text())["input_ids"]
rows = torch.tensor(ids[: len(ids) // 64 * 64]).view(-1, 64)

accelerator = Accelerator(cpu=not torch.accelerator.is_available(), gradient_accumulation_steps=2)
model = hf.AutoModelForCausalLM.from_pretrained(name, dtype="float32").train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loader = torch.utils.data.DataLoader(rows, batch_size=8, shuffle=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
sam = geo.Sam(model, optimizer, geo.SamArguments(rho=0.05), accelerator=accelerator)

for batch in loader:
    with accelerator.accumulate(model):
        loss = sam.backward(lambda ids: model(input_ids=ids, labels=ids).loss, batch)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

accelerator.unwrap_model(model).save_pretrained(out, is_main_process=accelerator.is_main_process)
print(sam.summary)
