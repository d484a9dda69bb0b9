"""Films become pieces: where they lie, their cuts, faces that are followed, and what is wrong with a piece."""
import subprocess
import weakref
from array import array
from pathlib import Path

import numpy as np
import pytest
import torch

from vasa_ref.errors import VasaError
from vasa_ref.footage import films
from vasa_ref.footage.films import (
    FaceTracker,
    Film,
    Piece,
    Seen,
    Track,
    crop_place,
    difference,
    find_cuts,
    find_fault,
    find_films,
    follow,
    histogram,
    make_pieces,
    poses_in,
    scan,
    seen_in,
    without_gaps,
)
from vasa_ref.media.clips import save_video
from vasa_ref.media.files import ffmpeg_exe
from vasa_ref.talking.photograph import Face, Similarity, centre_square, pose_in, turned_head


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- where films are

def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_voxceleb_has_people_and_sound_beside(tmp_path):
    touch(tmp_path, "dev/mp4/id00012/abc/00001.mp4", "dev/mp4/id00012/abc/00002.mp4", "dev/aac/id00012/abc/00001.m4a")
    first, second = find_films(tmp_path)
    assert (first.person, first.name) == ("id00012", "dev__mp4__id00012__abc__00001")
    assert first.sound == tmp_path / "dev/aac/id00012/abc/00001.m4a" and second.sound == second.path


def test_hdtf_has_people_in_names_and_lists_of_times(tmp_path):
    touch(tmp_path, "RD_Radio11_0.mp4", "RD_Radio11_1.mp4", "Whole.mp4")
    (tmp_path / "HDTF_dataset").mkdir()
    times = "Whole.mp4 00:30-01:00 59:30-1:00:10\n\nOther.mp4 0:0-0:9"
    (tmp_path / "HDTF_dataset/RD_annotion_time.txt").write_text(times)
    films_ = {film.name: film for film in find_films(tmp_path)}
    assert films_["RD_Radio11_0"].person == films_["RD_Radio11_1"].person == "RD_Radio11"
    assert films_["Whole"].spans == ((30, 60), (3570, 3610)) and films_["RD_Radio11_0"].spans == ()


def test_other_files_and_hidden_ones_are_no_films(tmp_path):
    touch(tmp_path, "a.MOV", "b.txt", ".work-1/c.mp4", "d.jpg")
    assert [film.name for film in find_films(tmp_path)] == ["a"]
    with pytest.raises(VasaError, match="no folder"): find_films(tmp_path / "none")
    (tmp_path / "a.MOV").unlink()
    with pytest.raises(VasaError, match="no films in .* accepted are .mp4"): find_films(tmp_path)


# ---- cuts

def test_a_histogram_has_shares_and_forgets_places():
    frame = torch.randint(0, 256, (90, 70, 3), generator=seeded(), dtype=torch.uint8)
    h = histogram(frame)
    assert h.shape == (64,) and abs(float(h.sum()) - 1) < 1e-5
    assert difference(h, histogram(frame.flip(0))) < 1e-5
    black, white = torch.zeros(9, 9, 3, dtype=torch.uint8), torch.full((9, 9, 3), 255, dtype=torch.uint8)
    assert abs(difference(histogram(black), histogram(white)) - 1) < 1e-6


def test_light_that_trembles_changes_a_wall_little_at_any_grey():
    grey = lambda v: histogram(torch.full((20, 20, 3), v, dtype=torch.uint8))
    assert max(difference(grey(v), grey(v + 2)) for v in range(0, 250)) < 0.1


def test_cuts_stand_out_from_their_neighbours():
    calm = 0.02 * torch.rand(200, generator=seeded())
    calm[[50, 75, 100, 125]] = 0.4
    assert find_cuts(calm) == [50, 75, 100, 125]
    wild = 0.2 + 0.1 * torch.rand(200, generator=seeded())
    assert find_cuts(wild)[2:] == [] or all(t < 12 or t > 188 for t in find_cuts(wild))
    wild[100] = 1.0
    assert find_cuts(wild[12:188]) == [] or 88 in find_cuts(wild[12:188])
    assert find_cuts(torch.zeros(0)) == find_cuts(torch.zeros(1)) == []


# ---- following

def still(frames, x=100.0, scale=40.0, start=0):
    return Track(start, array("f", [x, 100, scale, 0, 0, 0] * frames))


def spans(tracks):
    return [(track.start, track.end) for track in tracks]


def test_a_missed_face_is_waited_for_and_filled_in():
    face = lambda t: [] if 10 <= t < 14 else [Seen(100 + 2 * t, 50, 40)]
    track, = follow(map(face, range(30)))
    assert (track.start, track.end) == (0, 30) and track.rows[10:14].isnan().all()
    assert torch.allclose(without_gaps(track.rows)[:, 0], 100 + 2 * torch.arange(30.))
    gap = lambda n: [[] if 10 <= t < 10 + n else [Seen(100, 50, 40)] for t in range(30)]
    assert spans(follow(gap(films.PATIENCE))) == [(0, 30)]
    assert spans(follow(gap(films.PATIENCE + 1))) == [(0, 10), (11 + films.PATIENCE, 30)]


def test_a_jump_or_another_size_begins_a_new_track():
    jump = [[Seen(100 if t < 5 else 150, 50, 40)] for t in range(10)]
    assert spans(follow(jump)) == [(0, 5), (5, 10)]
    grow = [[Seen(100, 50, 40 if t < 5 else 70)] for t in range(10)]
    assert spans(follow(grow)) == [(0, 5), (5, 10)]


def test_order_does_not_matter_and_the_nearest_pairs_are_made_first():
    both = lambda t: [Seen(100 + t, 50, 40), Seen(115 + t, 50, 40)][::(-1) ** t]
    first, second = sorted(follow(map(both, range(20))), key=lambda track: track.rows[0, 0].item())
    assert torch.equal(first.rows[:, 0], 100 + torch.arange(20.))
    assert torch.equal(second.rows[:, 0], 115 + torch.arange(20.))


def test_one_head_that_is_seen_twice_is_one():
    both = [Seen(100, 50, 40), Seen(110, 55, 38), Seen(125, 50, 40)]
    assert films.without_doubles(both) == [both[0], both[2]] and films.without_doubles([]) == []


# ---- pieces

def test_pieces_end_at_cuts_and_are_of_equal_length():
    parts = make_pieces([still(701)], [100])
    assert [(p.start, p.end) for p in parts] == [(0, 100), (100, 300), (300, 500), (500, 701)]
    assert max(p.end - p.start for p in make_pieces([still(3001)], [])) <= films.LONGEST


def test_only_what_is_asked_for_is_read():
    parts = make_pieces([still(500)], [], ((2, 6), (10, 14)))
    assert [(p.start, p.end) for p in parts] == [(50, 150), (250, 350)]


def test_company_counts_faces_at_least_half_as_large():
    own, large, small = still(100), still(30, 300, 25, start=20), still(100, 300, 15)
    assert [round(p.company, 2) for p in make_pieces([own, large, small], [])] == [0.3, 1.0, 1.0]


def rows_of(frames=100, **changes):
    return torch.tensor([Seen(160, 120, 90)._replace(**changes)]).repeat(frames, 1)


@pytest.mark.parametrize("piece, fault", [
    (Piece(0, 100, rows_of()), ""), (Piece(0, 49, rows_of(49)), "shorter than 2 s"), (Piece(0, 50, rows_of(50)), ""),
    (Piece(0, 100, rows_of(), company=0.2), "several faces"), (Piece(0, 100, rows_of(scale=50)), "small face"),
    (Piece(0, 100, rows_of(yaw=-1.0)), "turned away"), (Piece(0, 100, rows_of(pitch=0.8)), "turned away"),
    (Piece(0, 100, rows_of(x=20)), "cut off by the edge"), (Piece(0, 100, rows_of(roll=3.0)), "")])
def test_each_fault_has_its_name(piece, fault):
    assert find_fault(piece, 240, 320, 256) == fault


def test_a_head_that_wanders_through_the_crop_is_left_out():
    rows = rows_of()
    rows[:, 0] += torch.linspace(-60, 60, 100)
    assert find_fault(Piece(0, 100, rows), 240, 320, 256) == "moves too far"


# ---- crops

def test_poses_are_those_of_a_photograph():
    place = Similarity.of(70, 0.2, (150, 90))
    points = torch.zeros(468, 3)
    points[list(films.Face.__init__.__globals__["HEAD"])] = torch.cat(
        [place(turned_head(0.3, -0.1)), torch.zeros(7, 1)], 1)
    face, square = Face(points), centre_square(200, 300)
    seen = seen_in(face)
    assert torch.allclose(poses_in(torch.tensor([seen]), square)[0], pose_in(face, square), atol=1e-4)


def test_the_centre_square_stays_where_it_will_do():
    inside = rows_of(x=160, y=120, scale=115)                          # of 240 x 320: distance 1.04
    assert crop_place(inside, 240, 320).shift.tolist() == [160, 120] and crop_place(inside, 240, 320).scale == 120
    small = crop_place(rows_of(x=60, scale=30), 240, 320)
    assert small.shift.tolist() == [60, 120] and abs(small.scale - 30) < 1e-4 and small.angle == 0
    assert abs(crop_place(rows_of(scale=30, roll=1.2), 240, 320).angle - 1.2) < 1e-5


def test_without_mediapipe_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setattr(films, "mediapipe_solutions", lambda: None)
    with pytest.raises(VasaError, match=r"pip install 'vasa_ref\[photo\]'") as error: FaceTracker()
    assert "\n" not in str(error.value)


# ---- whole films

def picture(seed, height=72, width=96):
    """A picture of its own colours with a red upper half of a disc, which says where up is."""
    g = seeded(seed)
    image = (255 * torch.rand(3, generator=g)).expand(height, width, 3) * torch.rand(height, width, 1, generator=g)
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    image = image.clone()
    image[(x ** 2 + y ** 2 < 400) & (y < 0)] = torch.tensor([255., 0, 0])
    return image.byte()


def upright_only():
    """A tracker that finds the disc, if its red half is above the middle."""
    def tracker(frame):
        red = (frame[..., 0] > 180) & (frame[..., 1] < 90) & (frame[..., 2] < 90)
        rows, columns = np.nonzero(red)
        if len(rows) < 200 or np.ptp(columns) < 1.4 * np.ptp(rows): return []
        y = (rows.min() + rows.max()) / 2
        return [Seen(float(columns.mean()), frame.shape[0] / 2, 36.0)] if y < frame.shape[0] / 2 else []
    return tracker


def film_of(path, *options, before=(), shots=(60, 60)):
    frames = [picture(i) for i, length in enumerate(shots) for _ in range(length)]
    plain = save_video(path.with_name("plain.mp4"), frames, torch.zeros(len(frames) * 640), crf=12)
    command = [ffmpeg_exe(), "-v", "error", "-y", *before, "-i", plain, *options, path]
    subprocess.run(list(map(str, command)), check=True)
    plain.unlink()
    return Film(path, path.stem, "nobody", path)


def test_a_film_is_divided_where_it_was_joined(tmp_path):
    seen = scan(film_of(tmp_path / "film.mp4", "-c", "copy"), upright_only, size=64)
    assert (seen.cuts, seen.frames, seen.height, seen.width, seen.turns) == ([60], 120, 72, 96, 0)
    assert [(p.start, p.end, p.fault) for p in seen.pieces] == [(0, 60, ""), (60, 120, "")]


@pytest.mark.parametrize("options", [("fps=60",), ("fps=15",), ("select='mod(n,3)'", "-fps_mode", "vfr")],
                         ids=["60", "15", "variable"])
def test_other_frame_rates_come_out_at_25(tmp_path, options):
    seen = scan(film_of(tmp_path / "film.mp4", "-vf", *options), upright_only, size=64)
    assert abs(seen.frames - 120) <= 2 and len(seen.cuts) == 1 and abs(seen.cuts[0] - 60) <= 1


def test_a_phone_held_askew_is_turned_as_its_film_says(tmp_path):
    lying = film_of(tmp_path / "lying.mp4", "-vf", "transpose=1").path
    subprocess.run([ffmpeg_exe(), "-v", "error", "-display_rotation", "90", "-i", lying, "-c", "copy",
                    tmp_path / "says.mp4"], check=True)
    says = scan(Film(tmp_path / "says.mp4", "says", "", lying), upright_only, size=64)
    assert (says.turns, says.height, says.width) == (0, 72, 96) and len(says.pieces) == 2
    silent = scan(Film(lying, "lying", "", lying), upright_only, size=64)
    assert (silent.turns, silent.height, silent.width) == (1, 72, 96)
    assert [p.fault for p in silent.pieces] == ["", ""]


def test_a_cut_every_second_leaves_nothing(tmp_path):
    seen = scan(film_of(tmp_path / "film.mp4", "-c", "copy", shots=(25,) * 6), upright_only, size=64)
    assert {p.fault for p in seen.pieces} == {"shorter than 2 s"} and seen.cuts == [25, 50, 75, 100, 125]


def test_ten_faces_are_several(tmp_path):
    path = tmp_path / "film.mp4"
    film = film_of(path, "-c", "copy", shots=(60,))
    seen = scan(film, lambda: lambda frame: [Seen(20 + 50 * i, 36, 36) for i in range(10)], size=64)
    assert len(seen.pieces) == 10 and {p.fault for p in seen.pieces} == {"several faces"}


def test_no_more_than_a_few_frames_are_ever_held(monkeypatch):
    alive, most = weakref.WeakSet(), 0

    def endless(path, fps=25):
        nonlocal most
        for _ in range(500):
            frame = torch.zeros(16, 16, 3, dtype=torch.uint8)
            alive.add(frame)
            most = max(most, len(alive))
            yield frame
    monkeypatch.setattr(films, "read_frames", endless)
    monkeypatch.setattr(films, "upright_turns", lambda path, make: 0)
    seen = scan(Film(Path("x"), "x", "", Path("x")), lambda: lambda frame: [Seen(8, 8, 8)], size=16)
    assert seen.frames == 500 and most <= 3


def test_a_film_that_is_none_is_said_to_be(tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"no film at all" * 50)
    with pytest.raises(VasaError, match="cannot read the video"):
        scan(find_films(tmp_path)[0], upright_only)


