"""Checks of exercises fail for plausible wrong answers: a solution in which one thing is replaced by a mistake.

For some exercises the mistakes are written here; for all others `mistakes` makes small ones until two are refused."""
import importlib
import math
import re

import pytest
import torch
import torch.nn.functional as F
from mistakes import mistakes
from test_exercises import CHAPTERS, NOTEBOOKS, name_of, of_chapter

WRONG = {  # chapter: {function: two mistakes or more (what the solution says, what a student might say)}
    "01_training": {
        "adam": [("return theta, (m, v, n)", "return theta, (m, v, 0)"),
                 ("return theta, (m, v, n)", "return theta, (m, 0.0, n)"),
                 ("** 0.5 + 1e-8", "+ 1e-8")]},
    "face/01_warps": {
        "undo": [("range(rounds)", "range(1)"), ("-flow_at", "flow_at"),
                 ("y + undone.movedim(1, -1)", "y - undone.movedim(1, -1)")]},
    "face/02_networks": {
        "soft_places": [("maps.flatten(2).softmax(dim=-1)", "maps.softmax(dim=-1).flatten(2)"),
                        (".clamp_min(1e-9)", ""), ("clamp_min(1e-9).sqrt()", "clamp_min(1e-9)"),
                        ("[0, ..., :2]", "[0, ..., [1, 0]]")]},
    "face/03_perceptual": {
        "texture_loss": [("x @ x.mT", "x.square().sum(-1)"), (" / x.shape[-1]", ""),
                         ("x.float().flatten(2)", "x.float().movedim(1, 0).flatten(1)")]},
    "face/04_adversary": {
        "gradient_penalty": [(", create_graph=True", ""), (".sum(dim=(1, 2, 3)).mean()", ".mean()"),
                             ("gradient.square().sum(dim=(1, 2, 3))", "gradient.flatten(1).norm(dim=1)"),
                             (".detach()", "")]},
    "face/05_pretraining": {
        "soft_contrast": [(".square() / width", " / width"), (" / width", ""),
                          ("F.cross_entropy(cosine.T, target)", "F.cross_entropy(cosine, target)"),
                          ("F.normalize(b, dim=1)", "b")]},
    "face/06_disentangle": {
        "fooling": [("z_id[:, :, None, None].expand(-1, -1, 8, 8)", "volume"),
                    ("z_id[:, :, None, None].expand(-1, -1, 8, 8)", "torch.full_like(volume, 0.5)"),
                    ("z_id[", "(z_id + z_dyn[:, :3] - z_dyn[:, :3].mean())[")]},
    "face/07_plain_training": {
        "by_signs": [(" - 1e-9", ""), (".mean(dim=1).abs()", ".mean(dim=1)"),
                     ("(signs * gain)", "(signs * gain.sign())")],
        "paired_t": [("gain.std()", "gain.var()"), ("gain.std()", "without.std()"), ("/ len(gain) ** 0.5", "")]},
    "face/08_separation": {
        "erase": [("codes - (codes - codes.mean(dim=0)) @ directions.T @ directions", "codes - means[persons]"),
                  ("[:people - 1]", "[:1]"), ("[:people - 1]", "[:people + 1]"),
                  ("(codes - codes.mean(dim=0))", "codes"), ("means - means.mean(dim=0)", "means")],
        "by_chance": [("persons[torch.randperm(len(persons), generator=generator)]", "persons"),
                      ("torch.randperm(len(persons), generator",
                       "torch.randint(len(persons), persons.shape, generator"),
                      ("persons[torch.randperm(len(persons), generator=generator)]",
                       "torch.randint(int(persons.max()) + 1, persons.shape, generator=generator)"),
                      ("generator=generator", "generator=torch.Generator().manual_seed(0)"),
                      (", generator=generator", "")]},
    "face/09_reading": {
        "paste": [("images.shape, align_corners=False", "images.shape, align_corners=True"),
                  ("torch.stack([c, -s, x], 1)", "torch.stack([c, s, x], 1)")],
        "worst_units": [(" / told.var(0, correction=0).clamp(min=1e-6)", ""),
                        ("(read - told).square().mean(0)", "(read - told).var(0)")]},
    "face/10_front": {
        "seen_area": [(" ** 2", ""), (".clamp(min=0)", ".abs()"), ("down, right", "right, down")],
        "flatten": [("transform(matrix, front_points(size).expand(len(image), -1, -1, -1))",
                     "front_points(size).expand(len(image), -1, -1, -1)"),
                    ("points[..., :2]", "points[..., [1, 0]]")]},
    "face/11_detail": {
        "copy_rigid": [("rigid_matrix(to_pose, inverse=True)", "rigid_matrix(to_pose)"),
                       ("rigid_matrix(from_pose)", "rigid_matrix(to_pose)")],
        "fit_table": [("torch.linalg.lstsq(amounts, offsets.flatten(1)).solution",
                       "(amounts.T @ offsets.flatten(1) / len(amounts))"),
                      ("torch.linalg.lstsq(amounts, offsets.flatten(1)).solution",
                       "(torch.linalg.pinv(amounts) @ offsets.flatten(1)).abs()")]},
    "hearing/01_spectra": {
        "fourier_filters": [("-angle.sin()", "angle.sin()"), (" * torch.hann_window(n_fft, dtype=torch.float64)", ""),
                            ("torch.hann_window(n_fft,", "torch.hann_window(n_fft, periodic=False,"),
                            ("* n / n_fft", "* n / (n_fft // 2 + 1)")],
        "samples_for": [("config.receptive_field + (states - 1) * config.hop", "states * config.hop"),
                        ("(states - 1)", "states")],
        "deltas": [('mode="replicate"', 'mode="reflect"'),
                   ("(2 * sum(n * n for n in steps))", "sum(n * n for n in steps)")]},
    "hearing/02_moonshine": {
        "stem_states": [("max(0, 1 + (samples - 895) // hop)", "1 + (samples - 895) // hop"),
                        ("(samples - 895)", "samples")],
        "complex_turned": [(".unflatten(-1, (-1, 2))", ".unflatten(-1, (2, -1)).mT"),
                           ("torch.polar(torch.ones_like(angle), angle)",
                            "torch.polar(torch.ones_like(angle), -angle)")],
        "step": [("[:, :, -left:], v[:, :, -left:]", ", v"), ("[total - n:]", "[:n]")]},
    "hearing/03_features": {
        "beside_constant": [("count.nonzero()[:, 0]", "range(len(count))"), ("right[truth == k]", "right[heard == k]"),
                            ("count.max() / len(truth)", "heard.bincount().max() / len(truth)"),
                            ("1 / len(recalls)", "1 / len(count)")],
        "linear_accuracy": [("value=1.0", "value=0.0"), (".argmax(1) == new_y", ".argmax(1) == y")],
        "final_rows": [("max(0, (samples - ahead) // (2 * config.hop))", "(samples - ahead) // (2 * config.hop)"),
                       ("(2 * config.hop))", "config.hop)")]},
    "hearing/04_training": {
        "shares": [("torch.where(seconds > 0, seconds ** power, 0.0)", "seconds ** power"),
                   ("weight / weight.sum()", "weight.softmax(0)")],
        "viseme_loss": [("(scores.logsumexp(-1) - mouth).mean()", "F.cross_entropy(scores, labels)"),
                        ("(scores.logsumexp(-1) - mouth).mean()",
                         "-(scores.softmax(-1) * same).sum(-1).log().mean()")],
        "aligned": [("best[0, 0] = fit[0, 0]", "best[0] = fit[0]"),
                    ("[len(phonemes) - 1]", "[int(best[-1].argmax())]"),
                    ("scores[:, phonemes]", "scores[:, phonemes.unique()]"), (" + fit[t]", ""),
                    ("    return torch.tensor(path[::-1])", "    return fit.argmax(1)")]},
    "motion/01_diffusion": {
        "ddpm_by_ddim": [("eta=1.0", "eta=0.0"), ("ddim_step(x_t, x0,", "ddim_step(x0, x_t,")],
        "invert": [("schedule.alpha_bar(later)", "schedule.alpha_bar(t)"), ("/ (1 - a).sqrt()", "/ (1 - a)"),
                   ("[-1] +", "[1] +"), ("[::-1]", "[::-2]"),
                   ("zip(times, times[1:])", "zip(times[::2], times[2::2])")],
        "memorised": [(".softmax(1)", ".exp()\n    weights = weights / weights.sum(1, keepdim=True)"),
                      ("a.sqrt()[:, None] * examples", "examples"), ("(2 * (1 - a))", "(1 - a)"),
                      ("weights @ examples", "examples[weights.argmax(1)]"),
                      ("schedule.alpha_bar(t)", "schedule.alpha_bar(t[:1])")]},
    "motion/02_conditions": {
        "nod_rate": [("pose[:, 1] - pose[:, 1].mean()", "pose[:, 1]"), ("(up.diff() == 1).sum()", "up.sum()"),
                     ("radians(1)", "radians(2)"), ("radians(1)", "radians(0.6)"),
                     ("* 60 * FPS / len(pose)", "* 15")],
        "densest": [("range(50)", "range(1)"), ("range(50)", "range(0)"),
                    ("directions[near.sum(1).argmax()]", "main_direction(directions)"),
                    ("directions[near.sum(1).argmax()]", "directions.mean(0)"),
                    ("(directions - place).norm(dim=1)", "(directions - place).abs().amax(1)")]},
    "motion/03_latents": {
        "clip_of": [("right=True", "right=False"), ("lengths.cumsum(0)", "lengths")],
        "even_clips": [("window // 2", "window"), ("room.float()", "lengths.float()"), (" + 1", ""), (" + 1", " + 2"),
                       (", generator=generator", ""),
                       ("generator=generator", "generator=torch.Generator().manual_seed(0)")],
        "mirrored": [(" * torch.tensor(signs)", ""), ("motion[:, places]", "motion")]},
    "motion/04_network": {
        "attend": [(" / q.shape[1] ** 0.5", ""), ("masked_fill(~mask", "masked_fill(mask")],
        "causal_mask": [("later <= ahead", "later < ahead"),
                        ("first = len(config.conditions) + config.context", "first = len(config.conditions)")],
        "saved": [("2 * config.context", "config.context"), ("own = 1 + config.window", "own = config.window")]},
    "motion/05_training": {
        "velocity_error": [("valid[:, 1:] & valid[:, :-1]", "valid[:, :-1]"),
                           ("valid[:, 1:] & valid[:, :-1]", "valid[:, 1:]"),
                           ("error[both].mean()", "(error * both).mean()")],
        "shares": [("(1 - together) * alone ** 2", "alone ** 2"), ("(1 - together) * 2", "(1 - together)")],
        "min_snr": [("weight / weight.mean()", "weight"), ("clamp(max=gamma)", "clamp(min=gamma)")]},
    "motion/06_sampling": {
        "seam_ratio": [("== window - 1", "== 0"), ("/ steps[~ends].mean()", "/ steps.mean()"),
                       (".abs().mean(1)", ".mean(1)"), (".abs().mean(1)", ".mean(1).abs()"),
                       ("/ steps[~ends].mean()", "* steps[~ends].mean()")],
        "wander": [("audio.chunk(len(yaws))", "audio.split(len(yaws))"),
                   ('stream.asked["gaze"] = (yaw, pitch)', 'stream.asked["gaze"] = (pitch, yaw)')],
        "rescaled": [("x.std((1, 2), keepdim=True)", "x.std()"),
                     ("spread(plain) / spread(guided)", "spread(guided) / spread(plain)"),
                     ("phi * guided * spread(plain) / spread(guided)", "phi * plain"),
                     ("x.std((1, 2), keepdim=True)", "x.std(1, keepdim=True)")]},
    "motion/07_distillation": {
        "halved": [(" and rounds[-1] % 2 == 0", ""), (" * (teachers > 0)", ""), ("2 * per_round", "per_round")]},
    "measure/01_estimator": {
        "own_errors": [(" / 2, (ab", ", (ab"), (".var()", ".square().mean()"), ("max(square, 0.0)", "abs(square)"),
                       ("(ab + ac - bc) / 2, (ab + bc - ac) / 2", "(ab + bc - ac) / 2, (ab + ac - bc) / 2")]},
    "measure/02_lipsync": {
        "beat": [("(loudness[1:] + loudness[:-1]) / 2", "loudness[1:]"), ("pose[:, :3]", "pose[:, 1:2]"),
                 (".diff(dim=0)", "[1:]"), ("pose[:, :3]", "pose"), (".clamp(min=1e-8)", "")]},
    "measure/03_frame_judges": {
        "fine_offset": [("len(curve) // 2", "15"), ("(a - c) / (2 *", "(a - c) / (1 *"), ("(a - c)", "(c - a)")],
        "hits": [("own < around.min()", "own <= around.min()"), ('around[reach] = float("inf")', "pass"),
                 ("range(reach, len(seen) - reach)", "range(reach, len(seen) // 2)")],
        "whose": [("list(min(permutations(range(len(seen))), key=total))",
                   "[min(range(len(heard)), key=row.__getitem__) for row in apart]"),
                  ("apart[face][sound]", "apart[sound][face]"), ("reach).min()", "0)[0]"),
                  ("reach).min()", "reach).mean()")]},
    "measure/04_metrics": {
        "skills": [("(true[name] - chance[name])", "abs(true[name] - chance[name])"),
                   ("true[name] != chance", "true[name] > chance"),
                   (" - chance[name]) / (true[name] - chance[name])", ") / true[name]")],
        "tremble": [("pose[:, :3]", "pose[:, :1]"), ("hertz > 4", "hertz > 2"), (".sum(1)", "[:, 0]"),
                    ("power[hertz > 4].sum() / power.sum()", "power[hertz > 4].sum() / power.mean()")]},
    "measure/05_tables": {
        "peaks_at": [("sorted(scores)", "list(scores)"), ("b <= best", "b < best"), ("b <= best", "a <= best"),
                     ("scores[a] > scores[b]", "scores[a] >= scores[b]")],
        "rank_correlation": [(".argsort().argsort()", ".argsort()"), (".argsort().argsort().double()", ".double()")]},
    "measure/06_voices": {
        "slower": [("dtype=torch.float64) / factor", "dtype=torch.float64) * factor"),
                   ("(speech.starts * factor).round().long()", "speech.starts"),
                   ("torch.cat([starts[1:], torch.tensor([size])])", "(speech.ends * factor).long()"),
                   ("torch.lerp(speech.waveform[low], speech.waveform[low + 1], (at - low).to(speech.waveform))",
                    "speech.waveform[low]")],
        "lossy": [("generator=generator", "generator=torch.Generator().manual_seed(1)"),
                  (", generator=generator", ""), ("repeat_interleave(320)", "repeat_interleave(160).repeat(2)")]},
    "media/01_clips": {
        "generations": [("Clip.load(copy.save", "Clip.load(clip.save"),
                        ("copy = Clip.load", "clip, copy = copy, Clip.load")],
        "lateness": [("size = len(heard) + len(spoken)", "size = max(len(heard), len(spoken))"),
                     ("shift if shift < len(heard) else shift - size", "shift"),
                     ("torch.fft.rfft(heard, size) * torch.fft.rfft(spoken, size).conj()",
                      "torch.fft.rfft(heard, size).conj() * torch.fft.rfft(spoken, size)")]},
    "speed/01_faster": {
        "in_batches": [("rows[-1:].expand(missing, -1)", "rows.new_zeros(missing, rows.shape[1])"),
                       ("rows[-1:]", "rows[:1]"), ("[:len(rows)]", "")],
        "overlapped": [("max(ready, begun[stage + 1])", "max(ready, begun[stage] + seconds)"),
                       ("max(ready, begun[stage + 1])", "ready"),
                       ("max(ready, begun[stage + 1])", "begun[stage + 1]"),
                       ("    return ready", "    return max(map(sum, zip(*times)))"),
                       ("    return ready", "    return sum(map(sum, times))")]},
    "speed/02_latency": {
        "playback": [("done - due, done", "done - due, due"), ("max(done, delay + i * new_frames / FPS)", "done"),
                     ("delay + i * new_frames / FPS)", "delay)"), ("done + buffer", "buffer"),
                     ("frozen + done - due", "done - due"), ("        due += new_frames", "        due += 1")],
        "most_fps": [("calls * max(macs / limits[0], moved", "max(macs / limits[0], calls * moved"),
                     ("calls * max(macs / limits[0], moved", "max(calls * macs / limits[0], moved"),
                     ("max(macs / limits[0], moved / limits[1])", "(macs / limits[0] + moved / limits[1])")]},
    "speed/03_scale": {
        "joined": [("(gradients * weights[:, None]).sum(0) / weights.sum()", "gradients.mean(0)"),
                   ("weights.sum()", "len(weights)")],
        "accumulated": [("    model.zero_grad()\n", ""), (" / parts).backward()", ").backward()")],
        "fewest": [("2 * (processes - 1) / processes", "2"), ("math.ceil(", "round(")]},
    "trust/01_credentials": {
        "siblings": [("a + b).digest()", "b + a).digest()"), ("other + digest if i % 2 else ", ""),
                     ("level[i ^ 1]", "level[i]"), ("hashlib.sha256(part).digest() for", "part for")],
        "hash_around": [("place + data", "data"), (" + data[start + length:]", "")],
        "signing": [(" % n", ""), ("return pow(hashed(message, n), d, n)", "return hashed(message, n)"),
                    ("return pow(signature, e, n) == hashed(message, n)",
                     "return pow(hashed(message, n), d, n) == signature"),
                    ("def valid(message, signature, e, n): return pow(signature, e, n)",
                     "def valid(message, signature, e, other): return pow(signature, e, other)")]},
    "talking/01_directing": {
        "plans": [("(values[first:] - values[first])", "(values[first:] - values[0])"),
                  ("max(same, follow)", "same"), (", frames - first))", "))"),
                  ("int(other[0]) if", "len(values[first:]) - len(other) if"), ("(i + 0.5) / rate", "i / rate")],
        "steps": [("after - frame", "after - 0.04"), ("sorted(value)", "list(value)")]},
    "talking/02_offline": {
        "chorus": [(", **controls).motion", ").motion"), ("torch.stack(pictures)", "torch.cat(pictures)"),
                   ("in talker.perform(waveform, **controls).motion:", "in [talker.motion(waveform, **controls)]:"),
                   ("talker.draw(one, [portion]) for one in encoded",
                    "talker.draw(talker.encode(one), [portion]) for one in portraits")],
        "fading": [("(length - t) / (fade + 1)", "(length - t) / fade"), ("        done += len(motion)\n", ""),
                   ("for motion in portions:", "for motion in list(portions):"),
                   ("weight * track + (1 - weight) * motion", "(1 - weight) * track + weight * motion")]},
    "talking/03_talker": {
        "running_mean": [("kept[old:], first + old", "kept, first"), ("kept[old:], first + old", "kept[old:], first"),
                         ("first + len(kept) - ahead", "first + len(kept)"),
                         ("    if first + len(kept) > done: yield means(first + len(kept))\n", ""),
                         ("max(0, done - back - first)", "max(0, done - first)"),
                         ("        if stop > done:", "        if stop > done + 50:")]},
    "talking/05_controls": {
        "settings_of": [("shlex.split(text)", "text.split()"), ("shlex.split(text)", "text.replace(\"'\", '').split()"),
                        ("int(values[0])", "float(values[0])"),
                        ("tuple(map(float, values)) if len(values) > 1", "list(map(float, values)) if len(values) > 1"),
                        ('int(runs["portrait"][-1])', 'runs["portrait"][-1]'),
                        (', "audio": None}', "}")]},
    "talking/04_photograph": {
        "steadiest": [(".norm(dim=-1).mean(-1)", ".square().sum(-1).mean(-1)"),
                      ("place(square) for place", "place.shift[None] for place"),
                      ("place(square) for", "torch.tensor([[place.scale, place.angle, *place.shift]]) for"),
                      ("places[int(distances.sum(1).argmin())]",
                       "places[int((corners - corners.mean(0)).norm(dim=-1).mean(-1).argmin())]"),
                      ("place(square) for place", "place.inverse()(square) for place"), ("argmin", "argmax")],
        "by_eyes": [("x * x + y * y", "x * x + y / y"), ("v * x - u * y", "v * x - u / y")],
        "fit_robust": [("range(rounds)", "range(1)"), ("(share * z).sum(), (share * w).sum()", "z.mean(), w.mean()")]},
    "talking/06_adapt": {
        "fit_and_doubt": [("found - basis @ usual", "found"), (".diagonal().sqrt()", ".diagonal()"),
                          ("1 / spread ** 2", "1 / spread"), ("bend.inverse().diagonal()", "1 / bend.diagonal()")],
        "smooth_fill": [("distance.square()", "distance"), ("weight / weight.sum(1, keepdim=True)", "weight / count")]},
    "trust/03_detector": {
        "counted_auc": [("below / 2", "below"), ("/ len(true)", "/ len(made)")],
        "threshold_for": [("true[None] > true[:, None]", "true[None] >= true[:, None]"), (".min()", ".max()")],
        "posterior": [("f if alarm else 1 - f", "f"), ("made / (made + true)", "made")]},
    "trust/02_watermark": {
        "false_alarms": [("(1 - (1 - 2.0 ** -check) ** looks)", "looks * 2.0 ** -check"),
                         ("(1 - (1 - 2.0 ** -check) ** looks)", "(1 - 2.0 ** -check) ** looks")],
        "vote": [("values if soft else values.sign()", "values"),
                 ("values if soft else values.sign()", "values.sign() if soft else values"),
                 (".sum(0) > 0", ".sum(0) >= 0")],
        "rounded": [("x + (hard - x).detach()", "hard"), ("< 0.67", "< 0.5")]},
    "footage/01_films": {
        "difference_in_parts": [("for rows in spans(height) for columns in spans(width)) / 4",
                                 "for rows in spans(height) for columns in spans(2 * width)) / 4"),
                                (" / 4", "")],
        "find_dissolves": [("far & ~before", "far"), (" + reach).tolist()", ").tolist()")],
        "posters": [("without_gaps(track.rows)", "track.rows"), (" / rows[:, 2].mean()", "")]},
    "footage/02_clips": {
        "fine_offset": [("(a - c)", "(c - a)"), ("if i in (0, len(curve) - 1): return float(i - len(curve) // 2)",
                                                 "pass")],
        "split": [("seconds.get(page[\"person\"], 0) + page", "page"), ("total > share", "total >= share")],
        "two_offsets": [("- least * count", ""), ("i = 1 + min", "i = min")]},
    "world/01_head": {
        "mirror_units": [("swap.items() if", "list(swap.items())[:1] if"),
                         ("units[:, [UNIT[name] for name in other]]", "units.flip(1)")],
        "fit_units": [("torch.linalg.lstsq(targets, offsets.flatten(1).T).solution.T", "offsets.flatten(1) @ targets"),
                      ("torch.linalg.lstsq(targets, offsets.flatten(1).T).solution.T",
                       "(offsets.flatten(1) @ targets) / targets.square().sum(0)")],
        "blend": [("share = share[..., None]", "share = share.square()[..., None]"),
                  ("share = share[..., None]", "share = share.expand(len(points), -1)[0, :, None]")]},
    "world/02_raster": {
        "on_edge": [("amin(1)", "amax(1)"), ("amin(1)", "mean(1)")],
        "two_nearest": [("        key = torch.where(key == least[pixel], nothing, key)\n", ""),
                        ("(50 - depth.double())", "(50 + depth.double())"),
                        ("torch.where(least < nothing, least % 2 ** 26, -1)", "least % 2 ** 26")]},
    "world/03_people": {
        "independent": [("torch.randperm(len(people), generator=generator)", "torch.arange(len(people)).roll(1)"),
                        ("torch.randperm(len(people), generator=generator)",
                         "torch.randint(len(people), (len(people),), generator=generator)"),
                        ("People.unflat(people.flat())", "people"),
                        ("generator=generator", "generator=torch.Generator().manual_seed(0)")]},
    "world/05_hair": {
        "part_at": [("/ width", "/ 0.1"), ("x - line", "x - 0.2"), ("torch.tanh", "torch.sign")]},
    "world/07_camera": {
        "grey_world": [(".clamp(0, 1)", ".clamp(1, 1)"), ("images * means.mean", "images / means.mean"),
                       ("means.mean(1, keepdim=True)", "0.5")],
        "quality_of": [("range(1, 101)", "range(100, 0, -1)"),
                       ("< 0.01", "< 1.0"),
                       ("range(1, 101)", "range(1, 101, 2)")]},
    "world/08_picture": {
        "light_of": [(' / (1.25 * 0.72 * shot["exposure"])', " / (1.25 * 0.72)"),
                     ('(1.2 * shot["saturation"])', 'shot["saturation"]'),
                     ("** 2.2", "** (1 / 2.2)"),
                     ('(pictures - 0.45) / shot["contrast"] + 0.45', 'pictures / shot["contrast"]')]},
    "world/09_voice": {
        "milliseconds_by_viseme": [("1000 * length", "length"), ("if name != SILENCE: ", "")],
        "look_alike": [("shapes(first) == shapes(second)", "shapes(first)[:1] == shapes(second)[:1]"),
                       (" if name != SILENCE", ""), (" if shape != before", "")],
        "viseme_shares": [(".clamp(max=total)", ""),
                          ("index_add", "index_copy"),
                          ("shared.clamp(min=0).float()", "shared.float()"),
                          ("torch.minimum(ends, speech.ends)", "speech.ends")]},
    "world/10_rooms": {
        "with_noise": [("/ 20", "/ 10"),
                       ("level(speech)", "level(speech).mean()"),
                       ("(-decibel / 20)", "(decibel / 20)"),
                       ("/ level(noise) ", "")]},
    "world/11_speaking": {
        "jumping": [("(t[:, None] >= sounds.ends)", "(t[:, None] + 0.1 >= sounds.ends)"),
                    ("sounds.targets[which]", "sounds.targets[which - 1]")],
        "whisper": [("0.8", "0.5"), ("[0.0, 1.0, 1.0, 0.0]", "[0.0, 0.0, 0.0, 0.0]")]},
    "world/12_prosody": {
        "likeliest": [("ways.min(0)", "ways.min(1)"),
                      ("places[::-1]", "places"),
                      ("        sums = sums + costs[t]\n", ""),
                      ("candidates.log2()", "candidates / 100"),
                      ("jump * (octaves", "0 * (octaves")]},
    "world/13_performer": {
        "voice_share": [(" - own / len(curves)", ""),
                        ("curves.var(0)", "curves.var(0, correction=0)"),
                        ("    curves = curves - curves.mean(1, keepdim=True)\n", ""),
                        ("shared / (shared + own)", "shared / own")]},
    "world/14_clips": {
        "recast": [("Truth(people,", "Truth(clip.truth.people,"),
                   ("make_figures(people)", "make_figures(clip.truth.people)")],
        "crossed": [("for clip in played] for who in people]", "for who in people] for clip in played]"),
                    ('draw(seed, "person")', 'draw(seed, "people")'),
                    ("clip, truth=dataclasses.replace(clip.truth, people=who)", "clip")]},
    "world/15_truth": {
        "from_all": [("seen & ~known", "seen"),
                     ("known = known | seen", "known = seen"),
                     ("correspondence(target, truth.screen, truth.depth)",
                      "correspondence(truth, target.screen, target.depth)")]},
    "world/16_frames": {
        "explained": [("torch.linalg.lstsq(x[:half], y[:half])", "torch.linalg.lstsq(x, y)"),
                      ("torch.cat([x, torch.ones(len(x), 1)], 1)", "x"),
                      (".max()", ".mean()"),
                      ("y[:, y[half:].std(0) > 0]", "y")]},
}


@pytest.mark.parametrize("chapter", WRONG)
def test_checks_fail_for_plausible_mistakes(chapter):
    found = {re.search(r"def check_(\w+)\(", stub)[1]: (module, stub, solution)
             for module, _, stub, solution in of_chapter(NOTEBOOKS / f"{chapter}.ipynb")}
    for name, pairs in WRONG[chapter].items():
        module, stub, solution = found[name]
        assert len(pairs) >= 2
        for right, wrong in pairs:
            assert right in solution, f"{name}: the solution no longer says {right}"
            names = {**vars(importlib.import_module("vasa_ref." + module)), "torch": torch, "F": F, "math": math}
            exec(stub, names)
            exec(solution.replace(right, wrong), names)
            with pytest.raises((AssertionError, ValueError, RuntimeError)):
                names["check_" + name](names[name])
                pytest.fail(f"the check of {name} passes for {wrong}", pytrace=False)


OTHERS = [pytest.param(module, name, stub, solution, id=f"{name_of(path)}: {name}")
          for path in CHAPTERS for module, _, stub, solution in of_chapter(path)
          if (name := re.search(r"def check_(\w+)\(", stub)[1])
          not in WRONG.get(name_of(path), {})]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module, name, stub, solution", OTHERS)
def test_checks_fail_for_small_mistakes(module, name, stub, solution):
    """Two of the small mistakes that can be made in the solution run, give another answer, and are refused."""
    refused = 0
    for _, code in mistakes(solution):
        names = {**vars(importlib.import_module("vasa_ref." + module)), "torch": torch, "F": F, "math": math}
        exec(stub, names)
        try:
            exec(code, names)
            names["check_" + name](names[name])
        except AssertionError:
            refused += 1
        except Exception:                      # a mistake that ends in an error shows itself
            continue
        if refused == 2:
            return
    pytest.fail(f"the check of {name} refuses {refused} small mistakes, of two", pytrace=False)
