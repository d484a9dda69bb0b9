"""Speak one text with espeak-ng and leave: the child process behind `vasa_ref.world.voice.say`.

espeak-ng keeps state between utterances, so the second one of a process differs in its bits from the same utterance
spoken first. A process per utterance makes speech a function of its arguments. Only the standard library is imported,
so that the process is up in milliseconds.

stdin: one JSON object (library, data, voice, text, rate, pitch, range). stdout: one line of JSON (rate in Hz, events
as [IPA name, first sample]), then 16-bit samples. Exit status 3 with a line on stderr where espeak-ng refuses.
"""
import ctypes
import json
import os
import sys

SYNCHRONOUS, PHONEME_EVENTS, IPA_NAMES, DONT_EXIT, UTF8 = 2, 1, 2, 0x8000, 1
RATE, PITCH, RANGE = 1, 3, 4
PHONEME = 7


class EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class Event(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
                ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
                ("user_data", ctypes.c_void_p), ("id", EventId)]


Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


def check(status: int, what: str) -> None:
    if status != 0:
        sys.stderr.write(f"espeak-ng: {what} failed with status {status}\n")
        sys.exit(3)


def phoneme_name(event: Event) -> str:
    # The name fills up to eight bytes, without a terminator when it fills them all; a cut-off character is dropped.
    raw = ctypes.string_at(ctypes.addressof(event.id), 8).split(b"\0")[0]
    return raw.decode("utf-8", "ignore")


def start(library: str, data: str) -> tuple[ctypes.CDLL, int]:
    """Load espeak-ng from the file `library` with the folder `data`; returns the library and its sample rate in Hz."""
    espeak = ctypes.CDLL(library)
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 200, data.encode(), PHONEME_EVENTS | IPA_NAMES | DONT_EXIT)
    if rate <= 0:
        check(rate or -1, "espeak_Initialize")
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))  # or its noise depends on the second of the clock
    return espeak, rate


def speak(espeak: ctypes.CDLL, request: dict[str, str | int]) -> tuple[bytes, list[tuple[str, int]]]:
    """Speak request["text"]; returns the 16-bit samples as bytes and the events [(IPA name, first sample)]."""
    samples, events = bytearray(), []

    def receive(wav, count, event):
        if wav and count > 0:
            samples.extend(ctypes.string_at(wav, 2 * count))
        index = 0
        while event[index].type:
            if event[index].type == PHONEME:
                events.append((phoneme_name(event[index]), event[index].sample))
            index += 1
        return 0

    callback = Callback(receive)
    espeak.espeak_SetSynthCallback(callback)
    check(espeak.espeak_SetVoiceByName(request["voice"].encode()), f"voice {request['voice']}")
    for parameter, name in ((RATE, "rate"), (PITCH, "pitch"), (RANGE, "range")):
        check(espeak.espeak_SetParameter(parameter, request[name], 0), f"{name} = {request[name]}")
    text = request["text"].encode("utf-8")
    espeak.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint,
                                    ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p]
    check(espeak.espeak_Synth(text, len(text) + 1, 0, 0, 0, UTF8, None, None), "espeak_Synth")
    check(espeak.espeak_Synchronize(), "espeak_Synchronize")
    return bytes(samples), events


def main() -> None:
    request = json.loads(sys.stdin.buffer.read())
    os.chdir(request["data"])  # espeak-ng cuts long paths, so it is given a short one
    espeak, rate = start(request["library"], ".")
    samples, events = speak(espeak, request)
    sys.stdout.buffer.write(json.dumps({"rate": rate, "events": events}).encode() + b"\n" + samples)


if __name__ == "__main__":
    main()
