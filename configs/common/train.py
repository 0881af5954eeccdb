"""Settings of a run that are not about the model: where it writes, how often, in which precision."""

train = dict(
    output_dir="./output/run",
    init_checkpoint="",  # a backbone from preprocess.py, or a trained checkpoint to fine-tune
    max_iter=1,
    seed=0,
    device=None,  # cuda, else mps, else cpu
    amp=dict(enabled=True, dtype="fp16"),  # fp16 or bf16
    clip_grad_norm=None,
    freeze=[],  # roles (pretrained, tokens, head, new), first_N blocks, parts of the model, or patterns of names
    cache_features=None,  # folder for the features of a frozen encoder, computed once for dataloader.train.fixed_views
    accumulate=1,  # micro-batches of dataloader.train.batch_size to one step of the optimizer
    ema_decay=None,  # of the running average of the weights, which is then what is evaluated and saved
    freeze_batch_norm=0.0,  # share of the iterations, at the end, in which BatchNorm keeps its running statistics
    sync_batch_norm=False,
    compile=False,  # torch.compile for the backbone: minutes at the start, faster iterations after
    checkpointer=dict(period=1000, max_to_keep=None, best_metric="sad"),  # or a list
    scan_data="headers",  # before training, of image files: off, headers (seconds) or decode (finds truncation too)
    eval_period=0,  # iterations between evaluations on dataloader.test; 0 for none
    num_panels=4,  # pictures for TensorBoard at each evaluation
    panel_files=False,  # whether these are also written as PNG files into validation/ of the run folder
    num_train_panels=4,  # samples of the first batch as a picture for TensorBoard; 0 for none
    picture_period=2000,  # iterations between pictures of what a system shows of its training; 0 for none
    log_period=20,
    wandb=dict(enabled=False, project="dinomatte", name=None),  # needs requirements/wandb.txt
)
