"""Settings of a run that are not about the model: where it writes, how often, in which precision."""

train = dict(
    output_dir="./output/run",
    init_checkpoint="",  # a backbone from preprocess.py, or a trained checkpoint to fine-tune
    max_iter=1,
    seed=0,
    device=None,  # cuda, else mps, else cpu
    amp=dict(enabled=True, dtype="fp16"),  # fp16 or bf16
    clip_grad_norm=None,
    sync_batch_norm=False,
    checkpointer=dict(period=1000, max_to_keep=None),
    scan_data="headers",  # before training, of image files: off, headers (seconds) or decode (finds truncation too)
    eval_period=0,  # iterations between evaluations on dataloader.test; 0 for none
    num_panels=4,  # pictures for TensorBoard at each evaluation
    log_period=20,
)
