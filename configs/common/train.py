"""Settings of a run that do not concern the model: output, periods, precision."""

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
    accumulate=1,  # micro-batches of dataloader.train.batch_size for each step of the optimizer
    ema_decay=None,  # decay of the running average of the weights, which is then evaluated and saved
    freeze_batch_norm=0.0,  # share of the iterations, at the end, in which BatchNorm keeps its running statistics
    sync_batch_norm=False,
    compile=False,  # torch.compile for the backbone: minutes at the start, then faster iterations
    checkpointer=dict(period=1000, max_to_keep=None, best_metric="sad"),  # or a list
    scan_data="headers",  # check of image files before training: off, headers (seconds), decode (finds truncation)
    eval_period=0,  # iterations between evaluations on dataloader.test; 0 for none
    num_panels=4,  # pictures for TensorBoard at each evaluation
    panel_files=False,  # whether these are also written as PNG files into validation/ of the run folder
    num_train_panels=4,  # samples of the first batch that TensorBoard shows; 0 for none
    picture_period=2000,  # iterations between pictures of a system's training; 0 for none
    log_period=20,
    curves=True,  # whether curves.png is drawn, once a minute and at the end
    wandb=dict(enabled=False, project="dinomatte", name=None),  # needs requirements/wandb.txt
)
