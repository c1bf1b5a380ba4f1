"""The setting that a mistyped name probably means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gradual.errors import nearest

# by the name that people type, or its last part: the name here
_OTHER_NAMES = {
    **dict.fromkeys(("lr", "learning_rate", "base_lr"), "optimizer.lr"),
    **dict.fromkeys(("optimizer_name", "optim", "optimizer.name", "optimizer.type"), "optimizer.class_path"),
    "optimizer.optimizer": "optimizer.class_path",
    **dict.fromkeys(("weight_decay", "wd"), "optimizer.weight_decay"),
    **dict.fromkeys(("betas", "eps", "momentum", "fused"), "optimizer.init_args"),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_scheduler_type", "scheduler_type"), "lr_schedule.name"),
    **dict.fromkeys(("warmup", "warmup_steps", "warmup_ratio", "num_warmup_steps"), "lr_schedule.warmup"),
    **dict.fromkeys(("epochs", "max_epochs", "num_epochs", "n_epochs", "num_train_epochs"), "trainer.max_epochs"),
    **dict.fromkeys(("steps", "max_steps", "num_steps", "total_steps"), "trainer.max_steps"),
    **dict.fromkeys(("gpus", "num_gpus", "n_gpu", "devices"), "trainer.devices"),
    **dict.fromkeys(("device", "accelerator", "cpu", "gpu"), "trainer.accelerator"),
    **dict.fromkeys(("precision", "fp16", "bf16", "amp", "dtype"), "trainer.precision"),
    **dict.fromkeys(
        ("max_grad_norm", "grad_clip", "gradient_clip", "clip", "clip_grad_norm"), "trainer.gradient_clip_val"
    ),
    **dict.fromkeys(
        ("gradient_accumulation_steps", "accumulation_steps", "grad_accum"), "trainer.accumulate_grad_batches"
    ),
    **dict.fromkeys(("batch_size", "train_batch_size", "per_device_train_batch_size", "bs"), "data.batch_size"),
    **dict.fromkeys(("val_batch_size", "test_batch_size", "per_device_eval_batch_size"), "data.eval_batch_size"),
    **dict.fromkeys(("num_workers", "workers", "dataloader_num_workers"), "data.num_workers"),
    **dict.fromkeys(("train", "train_file", "train_data", "train_path"), "data.in_domain"),
    **dict.fromkeys(("pool", "pool_file"), "data.out_of_domain"),
    **dict.fromkeys(("val_file", "valid_file", "validation_file", "dev", "dev_file"), "data.val"),
    **dict.fromkeys(("test_file",), "data.test"),
    **dict.fromkeys(("data_dir", "data_root", "data_path", "dataset_dir"), "data.root"),
    **dict.fromkeys(("max_len", "max_seq_length", "max_seq_len"), "data.max_length"),
    **dict.fromkeys(
        ("pretrained", "pretrained_model", "model_name", "model_name_or_path", "pretrained_model_name_or_path"),
        "model.encoder",
    ),
    **dict.fromkeys(("encoder_name", "backbone", "bert"), "model.encoder"),
    "encoder": "model.pretrained",
    **dict.fromkeys(("seed", "random_seed", "manual_seed"), "seed_everything"),
    **dict.fromkeys(("output_dir", "out", "out_dir", "output", "save_dir", "log_dir", "work_dir"), "run_dir"),
    **dict.fromkeys(("early_stopping", "early_stopping_patience", "early_stop"), "patience"),
    **dict.fromkeys(("metric_for_best_model", "metric"), "monitor"),
    **dict.fromkeys(("ema", "swa", "ema_decay"), "weight_averaging"),
    **dict.fromkeys(("amounts", "stages", "sizes"), "schedule"),
    **dict.fromkeys(("n_jobs", "parallel"), "jobs"),
    **dict.fromkeys(("ckpt", "checkpoint", "checkpoint_path", "resume_from_checkpoint"), "ckpt_path"),
    **dict.fromkeys(("config_file", "cfg", "yaml"), "config"),
}


def nearest_setting(name: str, known: Iterable[str]) -> str | None:
    """The setting that ``name`` probably means, by its names in other tools, by its last part, or by spelling."""
    settings = sorted(set(known), key=lambda other: (other.count("."), other))
    group, _, last = name.rpartition(".")
    other_name = _OTHER_NAMES.get(name) or _OTHER_NAMES.get(last)
    if group:  # in the given group, if it has such a setting
        second = (other_name or "").rpartition(".")[2]
        third = _OTHER_NAMES.get(second, "").rpartition(".")[2]
        for wanted in filter(None, (last, second, third)):
            inside = [other for other in settings if other.startswith(f"{group}.") and other.endswith(f".{wanted}")]
            if inside:
                return inside[0]
    beside = {other.rpartition(".")[2]: other for other in settings if other.rpartition(".")[0] == group}
    if group and (like := _like(last, beside, 0.7)):
        return like
    if other_name:
        return other_name
    for other in settings:
        if other.endswith(f".{last}"):
            return other
    return (
        _like(last, beside, 0.7)
        or _like(name, {other: other for other in settings}, 0.8)
        or _like(last, {other.rpartition(".")[2]: other for other in reversed(settings)}, 0.75)
    )


def _like(name: str, settings: Mapping[str, str], least: float) -> str | None:
    near = nearest(name, settings, cutoff=least)
    return settings[near] if near is not None else None
