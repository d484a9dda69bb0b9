"""The paper's tables: what is asked of the model, and how the answers are laid out."""
import pytest
import torch

from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config
from vasa_ref.measure import tables
from vasa_ref.measure.estimator import EstimatorConfig, MotionEstimator
from vasa_ref.measure.frame_judges import FrameConfig, FrameEncoder, FrameJudges
from vasa_ref.measure.lipsync import Judges, SyncConfig
from vasa_ref.measure.metrics import Instruments
from vasa_ref.measure.tables import COLUMNS, FACTORS, SETTINGS, SHIFTS, as_text, capp_tables, paper_tables
from vasa_ref.talking.talker import Talker


@pytest.fixture
def instruments():
    torch.manual_seed(0)
    estimator = MotionEstimator(EstimatorConfig.tiny()).eval()
    audio_encoder = Wav2Vec2(Wav2Vec2Config.tiny()).eval()
    judges = Judges(SyncConfig.tiny(audio_dim=audio_encoder.config.hidden_size)).eval()
    watching = FrameEncoder(FrameConfig.like(judges.config, estimator.config, "tiny")).eval()
    return Instruments(estimator, judges, FrameJudges(watching, judges, estimator, audio_encoder), audio_encoder)


def test_capp_is_asked_about_shifts_and_factors(instruments, monkeypatch):
    asked = []

    def score(pose, features, shift=0):
        asked.append((pose[:, :3].std(0).norm().item(), shift))
        return float(shift)
    monkeypatch.setattr(instruments.judges, "capp_score", score)
    done = []
    shifted, scaled = capp_tables(instruments, talks=2, progress=lambda: done.append(1))
    assert shifted == {k: float(k) for k in SHIFTS} and scaled == {k: 0.0 for k in FACTORS} and len(done) == 2
    spreads = [spread for spread, shift in asked[len(SHIFTS):len(SHIFTS) + len(FACTORS)]]
    assert spreads == pytest.approx([factor * spreads[2] for factor in FACTORS], rel=0.1)


def test_each_setting_reaches_the_model(instruments, monkeypatch):
    talker, asked, asked_for = Talker.random("tiny"), [], []
    motion = talker.motion
    monkeypatch.setattr(talker, "motion",
                        lambda audio, **controls: asked.append(controls) or motion(audio, **controls | {"steps": 1}))
    monkeypatch.setattr(tables.Talker, "from_pretrained",
                        classmethod(lambda cls, folder, device: asked_for.append(device) or talker))
    monkeypatch.setattr(tables, "load_instruments", lambda folder, device: asked_for.append(device) or instruments)
    monkeypatch.setattr(tables, "video_distance", lambda real, made: float(sum(map(len, made)) - sum(map(len, real))))
    monkeypatch.setattr(tables, "SETTINGS", dict(list(SETTINGS.items())[2:4]))
    found = paper_tables("laptop", quick=True, quiet=True, device="cpu:0")
    assert asked_for == ["cpu:0"] * 2
    assert [(c["cfg_scale"], c["steps"])
            for c in asked] == [({"audio": 0, "gaze": 2}, 50)] * 4 + [({"audio": 0.5, "gaze": 1}, 50)] * 4
    assert list(found["guidance"]) == ["real", "0, 2, 50", "0.5, 1, 50"] and found["clips"] == 4 and found["talks"] == 6
    assert all(set(COLUMNS) - {"fvd"} <= set(row) for row in found["guidance"].values())
    assert [name for name, row in found["guidance"].items() if "fvd" not in row] == ["real"]
    text = as_text(found).splitlines()
    assert text[1].split() == ["0", f"{found['capp_shift']['0']:.3f}", "0.608"] and text[-1].split()[-1] == "0.005"
