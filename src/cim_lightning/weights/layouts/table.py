"""All layouts, in the order in which they are tried. The first that fits names the checkpoint."""

from cim_lightning.weights.layouts import beit, dinov2, hugging_face, torchvision
from cim_lightning.weights.layouts.layout import Layout

RUN = Layout("run", "run of cim-pretrain", (r"^hyper_parameters$",), r"state_dict\..*")
LIGHTNING = r"^pytorch-lightning_version$"
LAYOUTS = (
    RUN,
    Layout("mae", "MAE", (r"(^|\.)decoder_embed\.weight$", r"(^|\.)mask_token$"), r"(model\.)?"),
    Layout(
        "simmim",
        "SimMIM",
        (r"(^|\.)encoder\.mask_token$", r"(^|\.)decoder\.0\.weight$"),
        r"(model\.)?encoder\.",
        beit.convert,
    ),
    Layout(
        "moco_v3",
        "MoCo v3",
        (r"(^|\.)(base|momentum)_encoder\.",),
        r"(state_dict\.)?(base|momentum)_encoder\.",
    ),
    Layout("moco", "MoCo", (r"(^|\.)encoder_[qk]\.",), r"(state_dict\.)?encoder_[qk]\."),
    Layout("ijepa", "I-JEPA", (r"^(target_)?encoder\.", r"^predictor\.predictor_"), r"(target_)?encoder\."),
    Layout(
        "dinov2",
        "DINOv2",
        (r"(^|\.)(mask_token|register_tokens)$", r"blocks\.\d+\.(\d+\.)?ls1\.gamma$"),
        r"((model|teacher|student)\.)?(backbone\.)?",
        dinov2.convert,
    ),
    Layout("dino", "DINO", (r"^teacher\.", r"^student\."), r"((teacher|student)\.)?(backbone\.)?"),
    Layout(
        "solo_learn",
        "Lightning (solo-learn)",
        (LIGHTNING, r"^state_dict\.backbone\.", r"^state_dict\.(momentum_)?(classifier|projector)\."),
        r"state_dict\.(momentum_)?backbone\.",
    ),
    Layout(
        "lightly",
        "Lightning (lightly)",
        (LIGHTNING, r"^state_dict\.(\w+_)?(backbone|vit)\.", r"^state_dict\.\w*(projection|prediction)_head"),
        r"state_dict\.(\w+_)?(backbone|vit)\.(vit\.)?",
    ),
    Layout("lightning", "Lightning", (LIGHTNING,), r"state_dict\..*"),
    Layout(
        "hugging_face",
        "transformers",
        (r"attention\.attention\.query\.weight$",),
        convert=hugging_face.convert,
    ),
    Layout(
        "torchvision", "torchvision", (r"encoder_layer_0\.ln_1\.weight$",), convert=torchvision.convert_vit
    ),
    Layout(
        "sequential_resnet",
        "nn.Sequential of a ResNet",
        (r"(^|\.)4\.0\.conv1\.weight$",),
        convert=torchvision.convert_sequential_resnet,
    ),
    Layout("beit", "BEiT", (r"(^|\.)q_bias$",), convert=beit.convert),
    Layout("timm", "timm", (), r"((state_dict|model)(_ema)?\.)?"),
)
