"""Methods from checkpoints of `cim-pretrain`, without arguments."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.methods.cim import CIM
from cim_lightning.methods.method import Method
from cim_lightning.methods.supervised import Supervised


def test_a_run_is_loaded_without_arguments(run_pretrain, tiny, tmp_path):
    overrides = [o for o in tiny if not o.startswith(("cropping=", "decoder."))]
    short = ["trainer.max_steps=1", "callbacks.knn=null", "logger=[]", "output_dir=run"]
    run_pretrain("method=supervised", *overrides, *short)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert saved["classifier.weight"].shape[0] == 2  # classes
    for load, path in ((Supervised, checkpoint), (Method, str(tmp_path / "run"))):
        method = load.load_from_checkpoint(path)
        assert type(method) is Supervised
        assert method.batch_size == 8
        state = method.state_dict()
        assert state.keys() == saved.keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in saved.items())
    assert Supervised.load_from_checkpoint(checkpoint, map_location="meta").device.type == "meta"
    with pytest.raises(ConfigError, match=r"^checkpoint_path=.*is not a checkpoint of CIM; try Supervised\."):
        CIM.load_from_checkpoint(checkpoint)
