"""Credentials: signed whole or not at all, read back as they were written, and every misuse of a key said in one
line."""
import json
import os
import stat
import subprocess
import time
from datetime import datetime, timedelta, timezone

import pytest
import torch
from PIL import Image

from vasa_ref.app import cli
from vasa_ref.errors import VasaError
from vasa_ref.media.clips import Clip, save_video
from vasa_ref.talking.talker import Talker
from vasa_ref.trust import credentials
from vasa_ref.trust.credentials import Made, digest, inspect, new_identity, own_key, read_identity, sign
from vasa_ref.world.people import person
from vasa_ref.world.picture import portraits

torch.set_num_threads(1)
c2pa = pytest.importorskip("c2pa")
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    noise = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    Image.fromarray(noise.numpy()).save(path)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    frames = torch.randint(0, 256, (10, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    save_video(path, frames, 0.1 * torch.ones(6400))
    sign(path, Made(digest(b"p"), digest(b"s"), consent="she agreed"))
    return path


def pem(key, password=None):
    lock = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock)


def with_chain(key, days=100):
    """A PEM of a key of any kind, certified by a root on P-256."""
    root = ec.generate_private_key(ec.SECP256R1())
    links = [credentials.certificate("somebody", key.public_key(), "root", root, False, days),
             credentials.certificate("root", root.public_key(), "root", root, True)]
    return b"".join([pem(key), *(link.public_bytes(form.Encoding.PEM) for link in links)])


def test_what_was_written_is_read(film):
    report = inspect(film)
    assert (report.state, report.known, report.source) == ("intact", True, "trainedAlgorithmicMedia")
    assert report.maker.startswith("vasa_ref ") and report.signer.startswith("vasa_ref user ")
    assert report.facts == {"portrait": "sha256:" + digest(b"p"), "sound": "sha256:" + digest(b"s"),
                            "consent": "she agreed", "mark": "not stated"}
    when = datetime.fromisoformat(report.when.replace("Z", "+00:00"))
    assert abs(when - datetime.now(timezone.utc)) < timedelta(hours=1)
    assert Clip.load(film).frames.shape == (10, 32, 32, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".webp", ".tif"])
def test_pictures_of_all_formats(picture, tmp_path, suffix):
    path = tmp_path / f"b{suffix}"
    Image.open(picture).save(path)
    assert inspect(path).state == "absent"
    sign(path, Made(source="world"))
    assert inspect(path).state == "intact" and inspect(path).source == "algorithmicMedia"
    assert sorted(os.listdir(tmp_path)) == sorted(["a.png", path.name])


def test_any_flipped_byte_from_the_index_on_is_seen(film, tmp_path):
    data, generator = film.read_bytes(), torch.Generator().manual_seed(1)
    start = data.index(b"moov") - 4
    for place in (start + torch.randint(len(data) - start, (60,), generator=generator)).tolist() + [len(data) - 1]:
        other = bytearray(data)
        other[place] ^= 1 << int(torch.randint(8, (1,), generator=generator))
        (tmp_path / "flipped.mp4").write_bytes(other)
        try:
            assert inspect(tmp_path / "flipped.mp4").state in ("altered", "damaged"), place
        except VasaError as error:
            assert "cannot read the file" in str(error)


def test_the_key_is_private_and_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("VASA_HOME", str(tmp_path / "home"))
    path = own_key()
    before = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and os.listdir(path.parent) == ["key.pem"]
    assert own_key().read_bytes() == before
    monkeypatch.delenv("VASA_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert own_key() == tmp_path / "config" / "vasa_ref" / "key.pem"


def test_no_folder_for_the_key_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("VASA_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(VasaError, match="cannot make a key for signing in .*not a directory; set VASA_HOME"): own_key()


@pytest.mark.parametrize("make, algorithm", [
    (lambda: ec.generate_private_key(ec.SECP256R1()), "ES256"),
    (lambda: ec.generate_private_key(ec.SECP384R1()), "ES384"),
    (lambda: ec.generate_private_key(ec.SECP521R1()), "ES512"), (ed25519.Ed25519PrivateKey.generate, "ED25519"),
    (lambda: rsa.generate_private_key(65537, 2048), "PS256")], ids=["p256", "p384", "p521", "ed25519", "rsa"])
def test_own_keys_of_every_accepted_kind_sign(picture, tmp_path, make, algorithm):
    (tmp_path / "k.pem").write_bytes(with_chain(make()))
    assert read_identity(tmp_path / "k.pem").algorithm == algorithm
    sign(picture, Made(key=tmp_path / "k.pem"))
    assert inspect(picture).state == "intact" and not inspect(picture).known
    report = inspect(picture, tmp_path / "k.pem")
    assert report.known and report.signer == "somebody"


def test_order_in_the_file_does_not_matter(picture, tmp_path):
    key, end, root = new_identity("me").split(b"-----BEGIN")[1:]
    (tmp_path / "k.pem").write_bytes(b"".join(b"-----BEGIN" + part for part in (root, end, key)))
    sign(picture, Made(key=tmp_path / "k.pem"))
    assert inspect(picture, tmp_path / "k.pem").known


P256 = lambda: ec.generate_private_key(ec.SECP256R1())
BAD = {
    "text": (lambda: b"hello", "holds no private key"),
    "bytes": (lambda: bytes(range(256)), "holds no private key"),
    "empty": (lambda: b"", "is empty"),
    "no certificate": (lambda: pem(P256()), "has no certificate"),
    "certificate only": (lambda: new_identity().split(b"KEY-----\n", 2)[2], "holds no private key"),
    "another's certificate": (lambda: pem(P256()) + new_identity().split(b"KEY-----\n", 2)[2], "of another key only"),
    "two keys": (lambda: new_identity() + new_identity(), "several private keys"),
    "locked": (lambda: pem(P256(), b"secret"), "is locked with a password"),
    "expired": (lambda: with_chain(P256(), -1), "certificate that ended on"),
    "short RSA": (lambda: with_chain(rsa.generate_private_key(65537, 1024)), "is of another kind"),
    "curve": (lambda: with_chain(ec.generate_private_key(ec.SECP256K1())), "is of another kind"),
    "DSA": (lambda: with_chain(dsa.generate_private_key(2048)), "is of another kind"),
    "X25519": (lambda: pem(x25519.X25519PrivateKey.generate()), "is of another kind"),
    "damaged": (lambda: new_identity().replace(b"MIG", b"AAA", 1), "is damaged"),
}


@pytest.mark.parametrize("content, said", BAD.values(), ids=BAD)
def test_bad_keys_are_refused_in_one_line_and_nothing_is_written(picture, tmp_path, content, said):
    (tmp_path / "k.pem").write_bytes(content())
    before, names = picture.read_bytes(), sorted(os.listdir(tmp_path))
    with pytest.raises(VasaError, match=said) as refusal: sign(picture, Made(key=tmp_path / "k.pem"))
    assert "\n" not in str(refusal.value)
    assert picture.read_bytes() == before and sorted(os.listdir(tmp_path)) == names


def test_a_certificate_that_may_not_sign_content_is_refused(picture, tmp_path):
    key = P256()
    alone = credentials.certificate("root", key.public_key(), "root", key, True)
    (tmp_path / "k.pem").write_bytes(pem(key) + alone.public_bytes(form.Encoding.PEM))
    before = picture.read_bytes()
    with pytest.raises(VasaError, match="cannot sign a.png with the key"): sign(picture, Made(key=tmp_path / "k.pem"))
    assert picture.read_bytes() == before and len(os.listdir(tmp_path)) == 2


def test_manifests_of_other_makers_are_read(picture, tmp_path):
    identity = read_identity()
    created = {"action": "c2pa.created", "digitalSourceType": credentials.IPTC + "digitalCapture"}
    told = {"claim_generator_info": [{"name": "Camera X"}], "assertions": [
        {"label": "c2pa.actions", "data": {"actions": [created]}},
        {"label": credentials.LABEL, "data": ["not", "ours"]}, {"label": "org.other", "data": {"a": 1}}]}
    info = c2pa.C2paSignerInfo(alg=c2pa.C2paSigningAlg.ES256, sign_cert=identity.chain, private_key=identity.key,
                               ta_url=None)
    c2pa.Builder(json.dumps(told)).sign_file(str(picture), str(tmp_path / "other.png"), c2pa.Signer.from_info(info))
    report = inspect(tmp_path / "other.png")
    assert (report.state, report.maker, report.source, report.facts) == ("intact", "Camera X", "digitalCapture", {})


@pytest.mark.parametrize("name, content, said", [
    ("a.txt", b"hello", "cannot read the video"), ("a.mp4", b"no film at all" * 9, "cannot read the file"),
    ("a.png", b"", "is empty"), ("a", b"x", "cannot read the video")])
def test_what_is_no_film_or_picture_is_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VasaError, match=said) as refusal: inspect(tmp_path / name)
    assert "\n" not in str(refusal.value)
    with pytest.raises(VasaError, match="no such file"): inspect(tmp_path / "nothing.mp4")
    with pytest.raises(VasaError, match="is a directory"): inspect(tmp_path)


def certificates(content):
    return content[content.index(b"-----BEGIN CERTIFICATE"):]


def altered(path, to):
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    to.write_bytes(data)
    return to


def test_certificates_alone_know_a_signer(picture, tmp_path):
    content = new_identity("Ann")
    for name, part in (("both", content), ("public", certificates(content)),
                       ("other", certificates(new_identity("Ann")))):
        (tmp_path / f"{name}.pem").write_bytes(part)
    sign(picture, Made(key=tmp_path / "both.pem"))
    for name in ("both", "public"):
        report = inspect(picture, tmp_path / f"{name}.pem")
        assert report.known and "signed by  Ann (the key you gave)" in str(report)
    report = inspect(picture, tmp_path / "other.pem")
    assert not report.known and "Ann (not the key you gave: anybody" in str(report)
    assert "Ann (a key that is not known here: anybody" in str(inspect(picture))


@pytest.mark.parametrize("content, said", [
    (lambda: b"hello", "lacks certificates"), (lambda: pem(P256()), "lacks certificates"),
    (lambda: certificates(new_identity()).split(b"-----END CERTIFICATE-----")[0] + b"-----END CERTIFICATE-----",
     "lacks certificates"),
    (lambda: certificates(new_identity()).replace(b"MII", b"AAA"), "is damaged")],
    ids=["text", "key alone", "no root", "damaged"])
def test_files_without_certificates_are_refused_when_one_inspects(picture, tmp_path, content, said):
    (tmp_path / "k.pem").write_bytes(content())
    with pytest.raises(VasaError, match=said) as refusal: inspect(picture, tmp_path / "k.pem")
    assert "\n" not in str(refusal.value) and "accepted is a PEM file with certificates" in str(refusal.value)


def test_an_own_key_that_is_damaged_or_expired_blocks_no_file(picture, tmp_path, monkeypatch):
    (tmp_path / "ann.pem").write_bytes(new_identity("Ann"))
    sign(picture, Made(key=tmp_path / "ann.pem"))
    monkeypatch.setenv("VASA_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    own = tmp_path / "home" / "key.pem"
    for content in (b"hello", b"", certificates(new_identity()).replace(b"MII", b"AAA")):
        own.write_bytes(content)
        report = inspect(picture)
        assert report.state == "intact" and not report.known and str(own) in report.note
        assert str(report).count("is left out") == 1
        assert inspect(picture, tmp_path / "ann.pem").note is None
    own.write_bytes(new_identity(days=-1))
    report = inspect(picture)
    assert (report.state, report.known, report.note) == ("intact", False, None)


def test_whose_key_it_was_is_said_of_altered_files(picture, tmp_path):
    sign(picture, Made())
    report = inspect(altered(picture, tmp_path / "b.png"))
    assert report.state == "altered" and report.known and "(the key of this user)" in str(report)
    (tmp_path / "other.pem").write_bytes(certificates(new_identity()))
    report = inspect(tmp_path / "b.png", tmp_path / "other.pem")
    assert report.state == "altered" and not report.known and "(not the key you gave:" in str(report)
    data = bytearray(picture.read_bytes())
    data[data.index(b"claim_generator_info") + 30] ^= 1                  # in what the signature is of
    (tmp_path / "c.png").write_bytes(data)
    report = inspect(tmp_path / "c.png")
    assert "claimSignature.mismatch" in report.problems and report.state == "altered" and not report.known
    assert "the signature does not fit" in str(report)


def test_a_certificate_that_ended_after_signing_is_no_alteration(picture, tmp_path):
    (tmp_path / "k.pem").write_bytes(new_identity("Ann", days=2 / 86400))
    sign(picture, Made(key=tmp_path / "k.pem"))
    for _ in range(20):                                                  # its two seconds go by
        if (report := inspect(picture, tmp_path / "k.pem")).problems: break
        time.sleep(0.5)
    assert (report.state, report.known, report.problems) == ("intact", False, (credentials.ENDED,))
    assert "Ann (its certificate has ended" in str(report)
    assert credentials.ENDED in (report := inspect(altered(picture, tmp_path / "b.png"))).problems
    assert report.state == "altered"


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".ts"])
def test_films_that_cannot_hold_credentials_still_have_their_mark(tmp_path, suffix, capsys):
    from vasa_ref.media.files import ffmpeg_exe
    from vasa_ref.trust.watermark import mark_frames
    path, frames = tmp_path / f"a{suffix}", (portraits(person(1), 128)[0].permute(1, 2, 0) * 255).byte()
    save_video(tmp_path / "a.mp4", mark_frames(frames.expand(10, -1, -1, -1), 0xC0FFEE42), torch.zeros(6400))
    codec = [] if suffix == ".webm" else ["-c", "copy"]
    subprocess.run([ffmpeg_exe(), "-v", "error", "-i", tmp_path / "a.mp4", *codec, path], check=True)
    assert inspect(path).state == "unsupported"
    assert cli.main(["inspect", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "no credentials in this kind of file" in out and "mark c0ffee42" in out and err == ""


@pytest.mark.parametrize("command", [["portrait", "--size", "32"], ["animate", "p.png", "s.wav"]], ids=lambda c: c[0])
def test_a_key_that_cannot_sign_is_refused_before_any_work(tmp_path, picture, monkeypatch, capsys, command):
    key = P256()
    alone = credentials.certificate("me", key.public_key(), "me", key, True)      # as `openssl req -x509` does
    (tmp_path / "k.pem").write_bytes(pem(key) + alone.public_bytes(form.Encoding.PEM))
    monkeypatch.chdir(tmp_path)
    for name in ("p.png", "s.wav"): (tmp_path / name).write_bytes(b"x")       # read later than the key is tried
    files = sorted(os.listdir())
    assert cli.main([*command, "-o", "o.mp4" if "animate" in command else "o.png", "--key", "k.pem"]) == 2
    out, err = capsys.readouterr()
    assert "cannot sign anything with the key 'k.pem'" in err and err.count("\n") == 1
    assert sorted(os.listdir()) == files


@pytest.mark.parametrize("text", ["", "   ", 3, "x" * 1001, "bell \x07"])
def test_consent_is_a_line_of_text(text):
    with pytest.raises(VasaError, match="1 to 1000 characters"): Made(consent=text)


def test_digests():
    assert digest(None) is None
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(b"abc") == digest(bytearray(b"abc")) == known
    assert digest(torch.zeros(2, 3)) == digest(torch.zeros(2, 3).numpy()) != digest(torch.zeros(3, 2))
    assert len({Made("a", "b").number, Made("a", "c").number, Made("b", "b").number}) == 3


def test_the_talkers_films_are_signed(tmp_path, picture):
    talker, sound = Talker.random("tiny"), torch.zeros(5 * 640)
    clip = talker.animate(picture, sound, made=Made(consent="yes"))
    report = inspect(clip.save(tmp_path / "a.mp4"))
    assert report.state == "intact" and report.facts["consent"] == "yes"
    assert report.facts["portrait"] == "sha256:" + digest(picture)
    assert report.facts["sound"] == "sha256:" + digest(sound)
    same = inspect(talker.animate_to_file(tmp_path / "b.mp4", picture, sound, made=Made(consent="yes")))
    assert same.facts == report.facts
    bare = talker.animate_to_file(tmp_path / "c.mp4", picture, sound, made=Made(credentials=False))
    assert inspect(bare).state == "absent"
    assert "base64" in clip._repr_html_()


def test_a_film_that_cannot_be_signed_does_not_appear(tmp_path, picture):
    (tmp_path / "k.pem").write_bytes(b"no key")
    clip = Talker.random("tiny").animate(picture, torch.zeros(5 * 640), made=Made(key=tmp_path / "k.pem"))
    with pytest.raises(VasaError, match="no private key"): clip.save(tmp_path / "a.mp4")
    assert sorted(os.listdir(tmp_path)) == ["a.png", "k.pem"]


def test_the_command_line(tmp_path, film, capsys):
    def vasa(*argv):
        code = cli.main([str(a) for a in argv])
        return code, *capsys.readouterr()
    code, out, err = vasa("inspect", film)
    assert code == 0 and err == "" and "film.mp4: intact" in out and "she agreed" in out
    (tmp_path / "x.mp4").write_bytes(film.read_bytes()[:-1] + b"#")
    code, out, err = vasa("inspect", tmp_path / "x.mp4")
    assert code == 2 and "ALTERED" in out and err.count("\n") == 1 and "bmffHash.mismatch" in err
    said = f"{tmp_path / 'p.png'}: person 0, 32 x 32 pixels\n"
    assert vasa("portrait", "-o", tmp_path / "p.png", "--size", 32) == (0, said, "")
    assert inspect(tmp_path / "p.png").source == "algorithmicMedia"
    code, out, err = vasa("portrait", "-o", tmp_path / "q.png", "--size", 32, "--no-credentials")
    assert code == 0 and "carries no credentials" in err and inspect(tmp_path / "q.png").state == "absent"
    for extra in (["--key", "k.pem", "--no-credentials"], ["--consent", "yes", "--no-credentials"],
                  ["--consent", " "], ["--key", "no.pem"]):
        code, out, err = vasa("animate", tmp_path / "p.png", film, "-o", tmp_path / "o.mp4", *extra)
        assert code == 2 and err.count("\n") == 1 and not (tmp_path / "o.mp4").exists(), extra
