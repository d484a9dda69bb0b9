"""Settings to pictures, and the panel by setting values and clicking, with a random talker of the tiny preset."""
import asyncio
import io
import shlex
from dataclasses import replace
from datetime import datetime, timezone

import ipywidgets
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from vasa_ref.app.arguments import make_parser
from vasa_ref.errors import VasaError
from vasa_ref.talking import controls, photograph
from vasa_ref.talking.controls import (
    Controls,
    Settings,
    chosen_file,
    command,
    draw_still,
    make_video,
    portrait_of,
    read_inputs,
    script,
    shown,
    speech_of,
    sweep,
)
from vasa_ref.talking.talker import Talker

QUICK = Settings(text="Yes.", steps=2)


@pytest.fixture(scope="module")
def talker():
    torch.set_num_threads(1)
    return Talker.random("tiny")


@pytest.fixture(autouse=True)
def no_faces_are_looked_for(monkeypatch):
    monkeypatch.setattr(photograph, "mediapipe_solutions", lambda: None)


@pytest.fixture
def panel(talker):
    return Controls(talker, QUICK)


def picture(colour=(200, 120, 90)):
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(stream, "png")
    return stream.getvalue()


def recording(seconds=0.2):
    stream = io.BytesIO()
    soundfile.write(stream, 0.1 * np.random.default_rng(0).standard_normal(int(8000 * seconds)), 8000, format="wav")
    return stream.getvalue()


def upload(widget, name, content):
    file = {"name": name, "type": "", "size": len(content), "content": memoryview(content),
            "last_modified": datetime.now(timezone.utc)}
    widget.set_trait("value", {name: file} if isinstance(widget.value, dict) else (file,))         # ipywidgets 7 or 8


def test_a_seed_is_the_person_of_the_command_line(tmp_path, monkeypatch):
    from vasa_ref.app import cli
    monkeypatch.chdir(tmp_path)
    assert cli.main(["portrait", "-o", "p.png", "--seed", "7", "--size", "32", "--quiet"]) == 0
    drawn = portrait_of(Settings(portrait=7), 32)
    for form in ("p.png", (tmp_path / "p.png").read_bytes()):
        torch.testing.assert_close(portrait_of(Settings(portrait=form), 32), drawn, atol=0.51 / 255, rtol=0)


def test_speech_is_said_or_read(tmp_path):
    (tmp_path / "s.wav").write_bytes(recording())
    assert len(speech_of(Settings(audio=tmp_path / "s.wav"))) == 3200 == len(speech_of(Settings(audio=recording())))
    happy, sad = (speech_of(Settings(text="Yes.").but(emotion=name)) for name in ("happy", "sad"))
    assert len(happy) != len(sad) or not torch.equal(happy, sad)
    for wrong in (Settings(audio=b"x"), Settings(text="!"), Settings(voice="nobody")):
        with pytest.raises(VasaError):
            speech_of(wrong)


def test_every_setting_of_the_still_changes_it(talker):
    base = draw_still(talker, QUICK)
    assert np.array_equal(base, draw_still(talker, QUICK))
    changes = [{"portrait": 4}, {"gaze": (30.0, 0.0)}, {"distance": 1.4}, {"emotion": "angry"},
               {"pose": (30.0, 0.0, 0.0)}, {"cfg_gaze": 4.0},
               {"cfg_audio": 4.0}, {"steps": 3}, {"seed": 1}]
    for change in changes:
        assert not np.array_equal(base, draw_still(talker, QUICK.but(**change))), change


def test_video_of_settings(talker):
    clip = make_video(talker, replace(QUICK, audio=recording(0.4)))
    assert clip.frames.shape == (10, 32, 32, 3)


def test_sweep_is_a_labelled_sheet(talker):
    page = np.array(Image.open(io.BytesIO(sweep(talker, QUICK, "distance", [0.9, 1.0, 1.1], columns=2).data)))
    above = (page.shape[0] - 2 * 32 - 4) // 2                          # labels above each row, 4 px between rows
    shown = page[above:above + 32, 36:68].astype(int)
    assert abs(shown - np.array(draw_still(talker, QUICK.but(distance=1.0)))).mean() < 8          # of JPEG
    assert page[:above, :32].min() < 100 and (page[-32:, 36:] > 240).all()


@pytest.mark.parametrize("settings", [
    Settings(text="It's me."),
    Settings(portrait="a b.png", audio="it's.wav", steps=12, seed=3, cfg_audio=0.5, cfg_gaze=2.0),
    Settings(portrait=b"bytes", audio="s.wav", emotion_strength=0.5).but(
        gaze=(-10.0, 5.0), distance=1.2, emotion="sad", head_motion=1.5, blink_rate=30.0)])
def test_settings_as_commands_and_as_python(settings):
    *makers, last = map(shlex.split, command(settings).splitlines())
    args = make_parser().parse_args(last[1:])
    assert (args.seed, args.steps) == (settings.seed, settings.steps)
    for name in ("cfg_audio", "cfg_gaze"):
        given = getattr(args, name)                                        # None: as by default
        assert (getattr(Settings(), name) if given is None else given) == getattr(settings, name)
    assert all(getattr(args, name) == value or (getattr(args, name) is None and value == Settings().conditions[name])
               for name, value in settings.conditions.items())
    assert args.emotion_strength in (None, settings.emotion_strength)
    made = {words[1]: make_parser().parse_args(words[1:]) for words in makers}
    assert ("portrait" in made) == isinstance(settings.portrait, int) and ("say" in made) == (settings.audio is None)
    if "portrait" in made: assert made["portrait"].seed == settings.portrait and args.portrait == made["portrait"].out
    if "say" in made: assert made["say"].text == settings.text and args.audio == made["say"].out
    names = {"Settings": Settings}
    exec(next(line for line in script(settings).splitlines() if line.startswith("settings =")), names)
    expected = settings if settings.portrait != b"bytes" else replace(settings, portrait="portrait.png")
    assert names["settings"] == expected
    with pytest.raises(VasaError, match="neutrally"): command(Settings().but(emotion="sad"))
    with pytest.raises(VasaError, match="hold"): command(replace(settings, pose=(1.0, 0.0, 0.0)))
    with pytest.raises(VasaError, match="mix"): command(replace(settings, audio="s.wav").but(emotion={"sad": 0.5}))


def test_panel_shows_the_settings_it_was_given(talker):
    asked = dict(gaze=(10.0, -5.0), distance=1.1, emotion="sad", head_motion=1.5, blink_rate=30.0)
    given = Settings(portrait=9, text="No.", voice="ada", language="de", conditions=asked, emotion_strength=0.5,
                     pose=(5.0, 0.0, -5.0), cfg_audio=1.0, cfg_gaze=2.0, steps=2, seed=4)
    assert Controls(talker, given).settings == given.but(head_motion=None)              # the head is held
    for head_motion in (1.5, None):
        asked = given.but(pose=None, head_motion=head_motion)
        assert Controls(talker, asked).settings == asked
    assert Controls(talker, replace(QUICK, steps=None)).settings.steps == talker.motion_model.sampling.steps


@pytest.mark.parametrize("name, value, field, expected", [
    ("gaze_yaw", 15, "gaze", (15, 0)), ("gaze_pitch", -10, "gaze", (0, -10)), ("distance", 1.3, "distance", 1.3),
    ("emotion", "happy", "emotion", "happy"),
    ("cfg_gaze", 3, "cfg_gaze", 3), ("cfg_audio", 2, "cfg_audio", 2), ("steps", 3, "steps", 3), ("seed", 5, "seed", 5),
    ("person", 11, "portrait", 11),
    ("emotion", "", "emotion", None), ("hold", True, "pose", (0, 0, 0)), ("blink_rate", 30, "blink_rate", 30),
    ("set_head_motion", True, "head_motion", 1)])
def test_a_slider_changes_the_setting_and_the_still(panel, name, value, field, expected):
    if value == "": panel.inputs[name].value = "sad"
    before = panel.still.value
    panel.inputs[name].value = value
    settings = panel.settings
    assert (settings.conditions | vars(settings))[field] == expected
    assert panel.still.value != before and panel.message.value == ""
    assert Image.open(io.BytesIO(panel.still.value)).size == (32, 32)


def test_nothing_is_blank_and_a_strength_has_an_emotion(panel):
    emotion = panel.inputs["emotion"]
    assert emotion.label == "what the audio says" and panel.settings.conditions["emotion"] is None
    assert "emotion_strength" not in shown(panel.inputs)
    emotion.value = "sad"
    panel.inputs["emotion_strength"].value = 0.5
    assert "emotion_strength" in shown(panel.inputs) and panel.settings.emotion_strength == 0.5
    emotion.value = ""
    assert panel.settings.emotion_strength == 1.0                     # of what does nothing, nothing is kept
    assert all(widget.description for name, widget in panel.inputs.items() if not name.endswith("upload"))
    assert panel.inputs["gaze_yaw"].description == "gaze yaw, °"


def test_a_moving_slider_draws_sketches_and_a_resting_one_all_steps(talker, monkeypatch):
    panel = Controls(talker, replace(QUICK, steps=6))
    drawn = []
    monkeypatch.setattr(controls, "PAUSE", 0.05)
    monkeypatch.setattr(controls, "draw_still", lambda talker, settings, portrait, real=draw_still: (
        drawn.append(settings.steps) or real(talker, settings, portrait)))

    async def move():
        for yaw in (3, 6, 9): panel.inputs["gaze_yaw"].value = yaw
        assert drawn == [4, 4, 4]
        await asyncio.sleep(0.3)

    asyncio.run(move())
    assert drawn == [4, 4, 4, 6] and panel.settings.steps == 6
    panel.reset()
    assert panel.settings == replace(QUICK, steps=6) and drawn == [4, 4, 4, 6, 6]


def test_threads_are_limited_inside_and_restored(panel, monkeypatch):
    seen = []
    monkeypatch.setattr(controls, "draw_still", lambda *args, real=draw_still: (
        seen.append(torch.get_num_threads()) or real(*args)))
    torch.set_num_threads(2)
    try:
        panel.inputs["seed"].value = 3
        assert seen == [1] and torch.get_num_threads() == 2
    finally: torch.set_num_threads(1)


def test_a_film_says_when_it_is_of_other_settings(panel):
    assert panel.older.value == ""
    panel.button.click()
    assert panel.older.value == "" and "<video" in panel.result.value
    panel.inputs["gaze_yaw"].value = 9
    assert "other settings" in panel.older.value and "--gaze 9 0" in panel.code.value
    panel.inputs["gaze_yaw"].value = 0
    assert panel.older.value == ""


def test_save_writes_a_new_file_each_time(panel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    panel.save()
    assert "no film yet" in panel.message.value
    panel.button.click()
    panel.save()
    panel.save()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film-1.mp4", "film-2.mp4"]
    assert "film-2.mp4" in panel.message.value


def test_faces_to_choose_from(panel, monkeypatch):
    panel.faces.show()
    seeds = [int(button.description) for button in panel.faces.buttons]
    assert len(set(seeds)) == 4 and all(Image.open(io.BytesIO(one.value)).size == (72, 72)
                                        for one in panel.faces.pictures)
    panel.inputs["portrait_from"].value = "path"
    panel.faces.buttons[2].click()
    assert panel.settings.portrait == seeds[2]
    panel.random()
    assert panel.settings.portrait != seeds[2] and panel.settings.text == QUICK.text


def test_noise_and_a_plain_colour_are_remarked_upon(panel):
    stream, noise = io.BytesIO(), np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(stream, "png")
    panel.inputs["portrait_from"].value = "upload"
    for content in (stream.getvalue(), picture()):
        upload(panel.inputs["portrait_upload"], "p.png", content)
        assert "shows no face" in panel.message.value
    stream = io.BytesIO()
    drawn = (portrait_of(Settings(portrait=7), 64)[0].permute(1, 2, 0) * 255).byte().numpy()
    Image.fromarray(drawn).save(stream, "png")
    upload(panel.inputs["portrait_upload"], "p.png", stream.getvalue())
    assert "shows no face" not in panel.message.value and "mediapipe is not installed" in panel.message.value


def test_the_portrait_is_encoded_once(panel, monkeypatch):
    calls = []
    monkeypatch.setattr(controls, "portrait_of",
                        lambda settings, size, real=portrait_of: calls.append(1) or real(settings, size))
    panel.inputs["gaze_yaw"].value = 12
    panel.inputs["seed"].value = 3
    assert not calls
    panel.inputs["person"].value = 12
    panel.inputs["gaze_yaw"].value = 13
    assert len(calls) == 1


def test_the_button_makes_the_video(panel):
    seen = []
    panel.bar.observe(lambda change: seen.append((change["new"], panel.button.disabled)), names="value")
    panel.button.click()
    assert len(panel.clip) == panel.bar.max == panel.bar.value and seen[-1] == (len(panel.clip), True)
    assert not panel.button.disabled and panel.bar.layout.visibility == "hidden"
    assert "<video" in panel.result.value and panel.message.value == "" and panel.clip_of == panel.settings


def test_mistakes_are_one_line_and_the_picture_stays(panel):
    before = panel.still.value
    panel.inputs["portrait_from"].value = "path"
    assert "no file yet" in panel.message.value
    panel.inputs["portrait_path"].value = "no/such.png"
    assert "no/such.png" in panel.message.value and "\n" not in panel.message.value
    assert panel.still.value == before
    panel.button.click()
    assert panel.clip is None and not panel.button.disabled and "no/such.png" in panel.message.value
    panel.inputs["portrait_from"].value = "person"
    assert panel.message.value == ""


def test_other_errors_are_not_swallowed(panel, monkeypatch):
    monkeypatch.setattr(panel.talker, "animate", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        panel.make()
    assert not panel.button.disabled


def test_uploads(panel):
    panel.inputs["portrait_from"].value = "upload"
    before = panel.still.value
    upload(panel.inputs["portrait_upload"], "p.png", picture())
    assert panel.still.value != before and panel.settings.portrait == picture()
    panel.inputs["speech_from"].value = "upload"
    assert "no file yet" in panel.message.value
    upload(panel.inputs["audio_upload"], "s.wav", recording(0.4))
    panel.button.click()
    assert len(panel.clip) == 10 and "cannot" not in panel.message.value
    upload(panel.inputs["portrait_upload"], "p.png", b"no picture")
    assert "cannot read the portrait" in panel.message.value and "/tmp" not in panel.message.value


def test_what_is_dropped_is_known_by_its_content(panel):
    before, sound = panel.still.value, recording(0.4)
    panel.zone.files = [{"name": "a.wav", "content": memoryview(picture())},
                        {"name": "b.png", "content": memoryview(sound)}]
    assert panel.zone.said == "Took a.wav as the portrait. Took b.png as the speech."
    assert panel.settings.portrait == picture() and panel.settings.audio == sound and panel.still.value != before
    assert panel.inputs["portrait_drop"].placeholder == "a.wav" and "portrait_drop" in shown(panel.inputs)
    assert panel.zone.files == [] and "value" not in panel.inputs["portrait_drop"].keys        # nothing goes back
    panel.button.click()
    assert len(panel.clip) == 10
    panel.reset()
    assert panel.settings == QUICK
    panel.inputs["portrait_from"].value = "drop"
    assert panel.settings.portrait == picture()
    panel.zone.files = [{"name": "c.png", "content": picture((9, 90, 200))}]
    assert panel.settings.portrait == picture((9, 90, 200))


def test_what_is_neither_changes_nothing(panel):
    before = panel.still.value
    panel.zone.files = [{"name": "notes.txt", "content": b"Neither a picture nor a sound. " * 99}]
    assert panel.zone.said.startswith("notes.txt is neither a picture nor a sound; accepted are")
    silent = io.BytesIO()
    soundfile.write(silent, np.zeros(0), 8000, format="wav")
    for content in (b"", silent.getvalue()):
        panel.zone.files = [{"name": "x", "content": content}]
        assert panel.zone.said.startswith("x is neither")
    assert panel.settings == QUICK and panel.still.value == before and panel.message.value == ""
    panel.inputs["speech_from"].value = "drop"
    assert "no file yet" in panel.message.value


def test_uploads_of_ipywidgets_7_too():
    seven = {"p.png": {"metadata": {"name": "p.png"}, "content": b"the picture"}}
    eight = ({"name": "p.png", "content": memoryview(b"the picture")},)
    assert chosen_file("", seven) == chosen_file("", eight) == b"the picture" and chosen_file("typed", seven) == "typed"
    for nothing in ({}, ()):
        with pytest.raises(VasaError, match="no file yet"):
            chosen_file("", nothing)


def test_paths_of_the_panel_may_begin_at_home(panel, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "p.png").write_bytes(picture())
    (tmp_path / "s.wav").write_bytes(recording(0.4))
    panel.inputs["portrait_from"].value = panel.inputs["speech_from"].value = "path"
    panel.inputs["portrait_path"].value, panel.inputs["audio_path"].value = "~/p.png", "~/s.wav"
    panel.button.click()
    assert "cannot" not in panel.message.value and len(panel.clip) == 10
    assert torch.equal(portrait_of(panel.settings, 32), portrait_of(Settings(portrait=picture()), 32))


def test_only_what_matters_is_shown(panel):
    inputs = panel.inputs
    hidden = inputs.keys() - shown(inputs)
    assert hidden == {"portrait_path", "portrait_upload", "portrait_drop", "audio_path", "audio_upload", "audio_drop",
                      "head_yaw", "head_pitch", "head_roll", "emotion_strength", "head_motion"}
    inputs["hold"].value, inputs["speech_from"].value = True, "path"
    assert all((inputs[name].layout.display == "none") == (name not in shown(inputs)) for name in inputs)
    assert inputs["head_yaw"].layout.display is None and inputs["text"].layout.display == "none"


def test_text_of_a_panel_with_a_file_is_not_read(talker):
    panel = Controls(talker, replace(QUICK, audio="somewhere.wav"))
    assert panel.settings.audio == "somewhere.wav" and read_inputs(panel.inputs).text == Settings.text


def test_the_panel_displays_itself(panel, monkeypatch):
    import IPython.display
    shown_objects = []
    monkeypatch.setattr(IPython.display, "display", shown_objects.append)
    panel._ipython_display_()
    assert shown_objects == [panel.zone, panel.widget] and isinstance(panel.widget, ipywidgets.Widget)

    def inside(widget): return [widget] + [part for child in getattr(widget, "children", ()) for part in inside(child)]
    assert panel.zone not in inside(panel.widget)                       # where the zone cannot be drawn, the panel can
