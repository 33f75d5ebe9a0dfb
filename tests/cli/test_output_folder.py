"""A refused command removes the folders that it has made, and no others."""

import pytest


@pytest.mark.user_input("value", "a command that is refused", "no new folder stays behind")
def test_a_refused_command_leaves_no_new_folder(run_pretrain, tiny, tmp_path, capsys):
    (tmp_path / "outputs").mkdir()  # of other runs
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*tiny, "trainer.max_epochs=0", "output_dir=outputs/day/run")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("cim-pretrain: trainer.max_epochs=0: must be at least 1")
    assert list((tmp_path / "outputs").iterdir()) == []


@pytest.mark.parametrize("content", [None, "run.json"])
def test_a_refused_command_keeps_a_folder_that_existed(content, run_pretrain, tiny, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    if content:
        (folder / content).write_text("{}")
    with pytest.raises(SystemExit):
        run_pretrain(*tiny, "trainer.max_epochs=0", "output_dir=mine")
    assert folder.is_dir()
    assert not content or (folder / content).read_text() == "{}"
