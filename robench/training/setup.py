"""How a model is trained, whatever the defense."""

from typing import Literal

from pydantic import Field, model_validator

from robench.threat import Norm
from robench.utils.registry import Strict
from robench.utils.sizes import Size

Schedule = Literal["drops", "cosine", "one_cycle"]

SYNONYMS = {
    **dict.fromkeys(("learning_rate", "step_lr", "eta"), "lr"),
    **dict.fromkeys(("min_lr", "eta_min", "lr_min", "final_lr"), "lr_end"),
    **dict.fromkeys(("scheduler", "lr_schedule", "lr_scheduler", "annealing"), "schedule"),
    **dict.fromkeys(("milestones", "decay_epochs", "lr_steps", "steps_lr"), "drops"),
    **dict.fromkeys(("gamma", "lr_decay", "lr_gamma"), "drop_factor"),
    **dict.fromkeys(("warmup", "warmup_epochs", "lr_warmup_epochs"), "lr_warmup"),
    **dict.fromkeys(("opt", "optim"), "optimizer"),
    **dict.fromkeys(("wd", "l2_reg", "l2_penalty"), "weight_decay"),
    **dict.fromkeys(("beta1", "betas", "adam_betas"), "adam_beta1"),
    **dict.fromkeys(("bs", "batch", "train_batch_size", "minibatch"), "batch_size"),
    **dict.fromkeys(("ema", "ema_decay", "model_ema", "weight_averaging", "polyak"), "average"),
    **dict.fromkeys(("swa", "swa_start"), "swa_from"),
    **dict.fromkeys(("smoothing", "smooth", "ls"), "label_smoothing"),
    **dict.fromkeys(("clip", "grad_clip", "clip_grad", "max_grad_norm", "gradient_clipping"), "clip_gradient"),
    **dict.fromkeys(("grad_accum", "accumulation_steps", "gradient_accumulation"), "accumulation"),
    **dict.fromkeys(("mixup", "mix_up"), "mixup_alpha"),
    **dict.fromkeys(("cutmix", "cut_mix"), "cutmix_alpha"),
    **dict.fromkeys(("cutout", "augmentation", "augmentations", "transforms", "data_augmentation"), "augment"),
    **dict.fromkeys(("class_weight", "weights", "balanced"), "class_weights"),
    **dict.fromkeys(("early_stopping", "early_stop"), "patience"),
    **dict.fromkeys(("val", "validation", "val_size", "validation_size", "holdout_size"), "holdout"),
    **dict.fromkeys(("extra", "additional_data", "aux_data"), "extra_data"),
    **dict.fromkeys(("epsilon", "radius"), "eps"),
    **dict.fromkeys(("model", "architecture", "network", "backbone"), "arch"),
    **dict.fromkeys(("num_epochs", "n_epochs", "max_epochs"), "epochs"),
}
"""What other programs call a setting, and its name here: for the remedy where one is unknown."""


class Setup(Strict):
    """How a model is trained, whatever the defense.

    Drops are epochs at which the learning rate is multiplied by `drop_factor`; they scale when `--epochs` changes the
    length. Over `eps_warmup` epochs the radius grows linearly from 0. Of the training images `holdout` are kept back;
    the epoch kept is the best on them (`select`: accuracy under PGD-10, clean accuracy, or just the last).

    Those that are None are left out of a recipe's description:

    - `optimizer`: SGD, or Adam where `adam_beta1` is given; `adamw` decouples the weight decay (Loshchilov & Hutter
      2019).
    - `schedule`: `drops`; `cosine`, half a cosine to `lr_end` or 0; `one_cycle` (Smith & Topin 2018): from lr/25 up to
      lr over the first 30 % and down to lr/250,000, along half cosines. Without it `lr_end` asks for the cosine.
      `lr_warmup`: over so many epochs the rate grows linearly to what the schedule says.
    - `average`: what is kept is the weights' moving average, which keeps this share of itself each step; `swa_from`:
      it is their mean over the ends of the epochs from this one on (Izmailov et al. 2018), with batch norm's statistics
      taken anew under it.
    - `label_smoothing`: this share of a label is spread over all classes. `mixup_alpha`, `cutmix_alpha`: of the Beta
      distribution by which two images and their labels are mixed (Zhang et al. 2018; Yun et al. 2019).
    - `clip_gradient`: the norm to which the model's gradient is cut. `accumulation`: a batch is taken in so many parts,
      whose gradients add up to its own.
    - `class_weights`: images are drawn in proportion to their class's weight, with replacement, instead of once an
      epoch; `balanced`: each class as often.
    - `patience`: training ends when so many epochs have passed the radius' warm-up and the best one.
    - `extra_data`: a data set whose training images are added, but for those held out.
    - `labels`: so many images keep their label, as many of each class, as the seed draws them. `target_domain`: the
      data set to adapt to, without its labels. `unlabelled_batch`: the `batch_size` of the other streams than the
      labelled one, where it differs.
    """

    arch: str
    norm: Norm = "linf"
    eps: Size
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    lr: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0.0, ge=0)
    drops: list[float] = []
    drop_factor: float = 0.1
    eps_warmup: float = Field(default=0.0, ge=0)
    augment: list[Literal["crop", "flip", "cutout"]] = []
    mean: list[float] = [0.0]
    std: list[float] = [1.0]
    holdout: int = Field(default=0, ge=0)
    select: Literal["robust", "clean", "last"] = "robust"
    optimizer: Literal["sgd", "adam", "adamw"] | None = None
    schedule: Schedule | None = None
    lr_end: float | None = Field(default=None, ge=0)
    lr_warmup: float | None = Field(default=None, gt=0)
    adam_beta1: float | None = Field(default=None, ge=0, lt=1)
    average: float | None = Field(default=None, ge=0, lt=1)
    swa_from: int | None = Field(default=None, ge=0)
    label_smoothing: float | None = Field(default=None, gt=0, lt=1)
    mixup_alpha: float | None = Field(default=None, gt=0)
    cutmix_alpha: float | None = Field(default=None, gt=0)
    clip_gradient: float | None = Field(default=None, gt=0)
    accumulation: int | None = Field(default=None, gt=0)
    class_weights: Literal["balanced"] | list[float] | None = None
    patience: int | None = Field(default=None, gt=0)
    extra_data: str | None = None
    labels: int | None = Field(default=None, gt=0)
    target_domain: str | None = None
    unlabelled_batch: int | None = Field(default=None, gt=0)

    @property
    def adaptive(self) -> Literal["adam", "adamw"] | None:
        """The optimizer that has a step size for each weight, if that is asked for."""
        if self.optimizer == "sgd" or (self.optimizer is None and self.adam_beta1 is None):
            return None
        return "adamw" if self.optimizer == "adamw" else "adam"

    @property
    def softens(self) -> list[str]:
        """The settings that turn labels into shares of the classes."""
        return [name for name in ("label_smoothing", "mixup_alpha", "cutmix_alpha") if getattr(self, name) is not None]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Setup":
        mixed, parts = self.mixup_alpha is not None and self.cutmix_alpha is not None, self.accumulation or 1
        for wrong, sentence in (
            (self.nesterov and not self.momentum, "nesterov needs a momentum above 0"),
            (self.drops and self.lr_end is not None, "the learning rate has drops or an lr_end, not both"),
            (self.drops and self.schedule not in (None, "drops"), "only the schedule drops has drops"),
            (self.schedule in ("drops", "one_cycle") and self.lr_end is not None, "only the cosine has an lr_end"),
            (self.optimizer == "sgd" and self.adam_beta1 is not None, "sgd has no adam_beta1, but a momentum"),
            (self.average is not None and self.swa_from is not None, "average or swa_from is kept, not both"),
            (mixed, "a batch is mixed by mixup or by cutmix, not by both"),
            (self.swa_from is not None and self.swa_from >= self.epochs, "swa_from lies beyond the last epoch"),
            (parts > self.batch_size, "accumulation exceeds the batch_size"),
            (self.lr_warmup is not None and self.lr_warmup > self.epochs, "lr_warmup exceeds the epochs"),
            (self.patience is not None and not self.holdout, "patience needs images held out"),
        ):
            if wrong:
                raise ValueError(sentence)
        return self
