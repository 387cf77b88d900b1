// Starting from a picture, and the mask on it.
import { showModel } from "./settings.js";
import { $, say, state } from "./server.js";

export async function startFrom(blob, name) {
  let bitmap;
  try { bitmap = await createImageBitmap(blob); } catch { return say(`${name} is no picture that this browser reads.`, true); }
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let binary = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  state.image = { data: btoa(binary), width: bitmap.width, height: bitmap.height };
  for (const canvas of [$("image-canvas"), $("mask-canvas")]) {
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  }
  $("image-canvas").getContext("2d").drawImage(bitmap, 0, 0);
  $("brush").max = Math.max(8, Math.round(Math.min(bitmap.width, bitmap.height) / 2));
  $("brush").value = Math.max(4, Math.round(Math.min(bitmap.width, bitmap.height) / 6));
  $("start-picture").hidden = false;
  brush.x = bitmap.width / 2;
  brush.y = bitmap.height / 2;
  brush.painted = false;
  showModel();
  say(`Starting from ${name}.`);
}

function removeImage() {
  state.image = null;
  $("start-picture").hidden = true;
  $("file").value = "";
  showModel();
  say("Starting from noise.");
}

const brush = { x: 0, y: 0, isDown: false, painted: false };
const paint = document.createElement("canvas");

/// A round spot from the last place to this one.
function stroke(x, y, fromX = x, fromY = y) {
  const context = paintContext();
  context.globalCompositeOperation = $("erase").getAttribute("aria-pressed") === "true" ? "destination-out" : "source-over";
  context.strokeStyle = "#e6007e";
  context.lineWidth = Number($("brush").value);
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(fromX, fromY);
  context.lineTo(x, y + 0.01);
  context.stroke();
  brush.painted = true;
  showMask();
}

function paintContext() {
  const { width, height } = $("mask-canvas");
  if (paint.width !== width || paint.height !== height || !brush.painted) [paint.width, paint.height] = [width, height];
  return paint.getContext("2d", { willReadFrequently: true });
}

function showMask() {
  const canvas = $("mask-canvas");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (brush.painted) context.drawImage(paint, 0, 0);
  if (document.activeElement === canvas) {
    context.strokeStyle = "#000";
    context.lineWidth = Math.max(1, canvas.width / 128);
    context.beginPath();
    context.arc(brush.x, brush.y, Number($("brush").value) / 2, 0, 2 * Math.PI);
    context.stroke();
  }
}

/// A PNG in base64, white where it is painted; null where nothing is.
export function maskData() {
  if (!brush.painted) return null;
  const context = paintContext();
  const pixels = context.getImageData(0, 0, paint.width, paint.height);
  let isEmpty = true;
  for (let place = 0; place < pixels.data.length; place += 4) {
    const value = pixels.data[place + 3] > 127 ? 255 : 0;
    if (value) isEmpty = false;
    pixels.data.fill(value, place, place + 3);
    pixels.data[place + 3] = 255;
  }
  if (isEmpty) return null;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [paint.width, paint.height];
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas.toDataURL("image/png").split(",")[1];
}

function place(event) {
  const canvas = $("mask-canvas");
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
}

export function setUpMask() {
  const canvas = $("mask-canvas");
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    brush.isDown = true;
    [brush.x, brush.y] = place(event);
    stroke(brush.x, brush.y);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!brush.isDown) return;
    const [x, y] = place(event);
    stroke(x, y, brush.x, brush.y);
    [brush.x, brush.y] = [x, y];
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { brush.isDown = false; });
  canvas.addEventListener("keydown", (event) => {
    const far = Math.max(1, Number($("brush").value) / 2);
    const moves = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] };
    if (event.key in moves) {
      const [x, y] = moves[event.key];
      brush.x = Math.min(Math.max(brush.x + x, 0), canvas.width);
      brush.y = Math.min(Math.max(brush.y + y, 0), canvas.height);
    } else if (event.key === " ") {
      stroke(brush.x, brush.y);
    } else {
      return;
    }
    event.preventDefault();
    showMask();
  });
  for (const name of ["focus", "blur"]) canvas.addEventListener(name, showMask);
  $("erase").addEventListener("click", () => {
    $("erase").setAttribute("aria-pressed", String($("erase").getAttribute("aria-pressed") !== "true"));
  });
  $("clear-mask").addEventListener("click", () => { brush.painted = false; showMask(); });
  $("remove-image").addEventListener("click", removeImage);
}
