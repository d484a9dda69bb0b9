// A place for files, dropped or chosen, and for speech from the microphone. What came goes to the kernel as `files`;
// the sentence about it, `said`, is written by both. The browser loads this file as it is, through anywidget.
const MOST = 9e6, RATE = 16000, SECONDS = 60;        // bytes of a message; samples a second, length of a recording
const NO_MICROPHONE = {
  NotAllowedError: "The browser may not use the microphone: allow it beside the address, and press record again.",
  NotFoundError: "There is no microphone on this machine: drop a sound instead.",
  none: "This page gives no microphone (a browser gives one to https and to localhost only): drop a sound instead."};

function wav(samples) {                              // samples in [-1, 1], as 16 bit in one channel
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length)), bytes = 2 * samples.length;
  for (const [at, word] of [[0, "RIFF"], [8, "WAVEfmt "], [36, "data"]])
    for (let i = 0; i < word.length; i++) view.setUint8(at + i, word.charCodeAt(i));
  for (const [at, value] of [[4, 36 + bytes], [16, 16], [24, RATE], [28, 2 * RATE], [40, bytes]])
    view.setUint32(at, value, true);
  for (const [at, value] of [[20, 1], [22, 1], [32, 2], [34, 16]]) view.setUint16(at, value, true);
  samples.forEach((sample, i) => view.setInt16(44 + 2 * i, 32767 * Math.max(-1, Math.min(1, sample)), true));
  return new File([view], "recording");
}

async function decoded(blob) {                       // by the browser that made it: Python needs no codec
  const sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await blob.arrayBuffer());
  const channels = Array.from({length: sound.numberOfChannels}, (_, i) => sound.getChannelData(i));
  return wav(channels[0].map((_, t) => channels.reduce((sum, channel) => sum + channel[t], 0) / channels.length));
}

function render({model, el}) {
  el.innerHTML = `<div class="vasa-drop" role="group" aria-label="files and microphone">
    <span>Drop a picture or a sound here, or</span> <button class="jupyter-button">choose a file</button>
    <button class="jupyter-button">record</button> <input type="file" accept="image/*,audio/*,video/*" multiple hidden>
    <div role="status"></div></div>`;
  const zone = el.firstElementChild, [choose, record] = zone.querySelectorAll("button");
  const input = zone.querySelector("input"), status = zone.querySelector("[role=status]");
  const say = (said, more = {}) => { model.set({...more, said}); model.save_changes(); };
  const show = () => { status.textContent = model.get("said"); };
  model.on("change:said", show);
  show();

  async function send(files) {
    const names = files.map(file => file.name).join(", "), size = files.reduce((sum, file) => sum + file.size, 0);
    if (!files.length) return say("That is no file: save it, and drop the file.");
    if (size > MOST)
      return say(`${names}: ${(size / 1e6).toFixed(1)} MB, and ${MOST / 1e6} MB fit: type the path of a file here.`);
    try {
      const content = await Promise.all(files.map(file => file.arrayBuffer()));
      const sent = files.map((file, i) => ({name: file.name, content: new DataView(content[i])}));
      say(`Sending ${names} ...`, {files: sent});
    } catch { say(`The browser cannot read ${names}: is it a folder?`); }
  }

  let recorder = null;
  async function start() {
    let stream, seconds = 0, parts = [];
    try { stream = await navigator.mediaDevices.getUserMedia({audio: true}); }
    catch (error) { return say(NO_MICROPHONE[error.name] ?? NO_MICROPHONE.none); }
    recorder = new MediaRecorder(stream);
    const tick = () => { record.textContent = `stop, ${seconds} s`; if (seconds++ == SECONDS) recorder?.stop(); };
    const clock = setInterval(tick, 1000);
    recorder.ondataavailable = event => parts.push(event.data);
    recorder.onstop = async () => {
      clearInterval(clock);
      stream.getTracks().forEach(track => track.stop());
      [recorder, record.textContent] = [null, "record"];
      try { await send([await decoded(new Blob(parts))]); }
      catch { say("Nothing was recorded: speak for a moment before you stop."); }
    };
    recorder.start();
    tick();
  }

  choose.onclick = () => input.click();
  input.onchange = () => { send([...input.files]); input.value = ""; };
  record.onclick = async () => {
    if (recorder) return recorder.stop();
    record.disabled = true;                          // while the browser asks
    await start();
    record.disabled = false;
  };
  const over = is => zone.classList.toggle("vasa-over", is);
  zone.ondragover = event => { event.preventDefault(); over(true); };
  zone.ondragleave = () => over(false);
  zone.ondrop = event => {
    event.preventDefault();
    event.stopPropagation();
    over(false);
    send([...event.dataTransfer.files]);
  };
  const beside = event => {                          // a file that misses the zone must not replace the page
    if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "none";
  };
  window.addEventListener("dragover", beside);
  return () => { window.removeEventListener("dragover", beside); recorder?.stop(); };
}

export default {render};
