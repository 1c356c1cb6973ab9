"""The command that trains."""

from __future__ import annotations

from typing import Annotated

import typer

from mergekit_geo.cli.options import (
    Ascent,
    OneModel,
    Optimizer,
    Out,
    Processes,
    Writing,
    takes,
)
from mergekit_geo.cli.processes import relaunch
from mergekit_geo.cli.session import session


@takes(Writing)
def finetune(
    options: Writing,
    model: OneModel,
    out: Out,
    rho: Annotated[
        float, typer.Option(help="Radius of SAM's ascent; 0 is the optimizer alone.")
    ] = 0.05,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Scale the ascent by the weights; rho 0.5 to 2.")
    ] = False,
    every: Annotated[int, typer.Option(help="Ascend at every n-th step only.")] = 1,
    ascent: Annotated[
        Ascent, typer.Option(help="Whose gradient is climbed, of several processes.")
    ] = Ascent.AUTO,
    optimizer: Annotated[Optimizer, typer.Option(help="What steps.")] = Optimizer.ADAMW,
    epochs: Annotated[
        float | None, typer.Option(help="Through the training data; 1 if not said.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="In place of epochs.")] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate; by the size of the model if not.")
    ] = None,
    warmup: Annotated[float, typer.Option(help="Share of the steps.")] = 0.05,
    weight_decay: Annotated[float, typer.Option(help="Not of biases and norms.")] = 0.01,
    train_batch_size: Annotated[int, typer.Option(help="Examples of a batch.")] = 32,
    gradient_accumulation: Annotated[int, typer.Option(help="Batches of a step.")] = 1,
    bf16: Annotated[bool, typer.Option("--bf16", help="Run under bfloat16 autocast.")] = False,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, more time.")
    ] = False,
    lora_rank: Annotated[
        int | None, typer.Option(help="Train adapters of this rank, merged into the output (peft).")
    ] = None,
    members: Annotated[
        int | None, typer.Option(help="Train so many, with seeds from --seed on, for a soup.")
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between states to resume from; a tenth if not said.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run was.")
    ] = False,
    num_processes: Processes = 1,
) -> None:
    """Train a model further, with SAM, and measure it before and after."""
    with session("finetune", options, again="the same command with --resume goes on") as current:
        relaunch(num_processes)
        from mergekit_geo.commands.finetune import finetune as run
        from mergekit_geo.training.config import SamArguments
        from mergekit_geo.training.hyperparameters import Training

        result = run(
            model,
            out,
            training=Training(
                optimizer=optimizer.value,
                epochs=epochs,
                steps=steps,
                learning_rate=lr,
                warmup=warmup,
                weight_decay=weight_decay,
                batch_size=train_batch_size,
                accumulation=gradient_accumulation,
                bf16=bf16,
                lora_rank=lora_rank,
                gradient_checkpointing=gradient_checkpointing,
                save_every=save_every,
            ),
            sam=SamArguments(rho=rho, adaptive=adaptive, every=every, ascent=ascent.value),
            members=members,
            seed=options.seed,
            resume=resume,
            progress=current.progress(),
            **options.settings(),
        )
        current.show(result.report)
        current.gate(options.require is None or result.is_not_worse, f"--require {options.require}")
