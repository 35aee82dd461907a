// A picture to look into: zoom by wheel, pinch, double click or keys, drag, and lay the evidence over it. Moving
// about asks nothing of the server; it hears of the opacity alone, when that is let go of, for the saved overlay.
const NEAREST = 8, STEP = 1.25, CLICK = 3, PAN_PX = 60;

export default function ({ parentElement, data, setStateValue }) {
  const root = parentElement.querySelector(".viewer");
  const part = (name) => root.querySelector(`.viewer-${name}`);
  const stage = part("stage"), sheet = part("sheet"), square = part("square"), heat = part("heat");
  const state = (root.state ??= { zoom: 1, x: 0, y: 0, shown: true, opacity: data.opacity, picture: null });
  if (state.picture !== data.picture) Object.assign(state, { zoom: 1, x: 0, y: 0, picture: data.picture });

  const place = () => {
    const { clientWidth: width, clientHeight: height } = stage;
    const fit = Math.min(width / data.width, height / data.height), scale = fit * state.zoom;
    // What is smaller than the stage stands in its middle; what is larger leaves no gap at an edge.
    const held = (at, room, side) => (side <= room ? (room - side) / 2 : Math.min(0, Math.max(room - side, at)));
    state.x = held(state.x, width, data.width * scale);
    state.y = held(state.y, height, data.height * scale);
    sheet.style.width = `${data.width * fit}px`;
    sheet.style.height = `${data.height * fit}px`;
    sheet.style.transform = `translate(${state.x}px, ${state.y}px) scale(${state.zoom})`;
    stage.classList.toggle("viewer-near", state.zoom > 1);
    part("scale").textContent = `${Math.round(100 * state.zoom)} %`;
  };
  const lay = () => {
    heat.style.opacity = state.shown ? state.opacity : 0;
    square.style.visibility = state.shown && state.opacity > 0 && data.heat ? "visible" : "hidden";
    part("toggle").setAttribute("aria-pressed", state.shown);
    part("opacity").value = state.opacity;
  };
  const zoom = (factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) => {
    const next = Math.min(NEAREST, Math.max(1, state.zoom * factor)), ratio = next / state.zoom;
    Object.assign(state, { zoom: next, x: x - (x - state.x) * ratio, y: y - (y - state.y) * ratio });
    place();
  };
  const pan = (x, y) => { state.x += x; state.y += y; place(); };
  const toggle = () => { state.shown = !state.shown; lay(); };
  const at = (event) => {
    const edge = stage.getBoundingClientRect();
    return [event.clientX - edge.left, event.clientY - edge.top];
  };

  root.dataset.opacity = data.opacity;  // what the server knows of it
  stage.style.setProperty("--viewer-shape", data.height / data.width);
  stage.setAttribute("aria-label", data.keys);
  Object.assign(part("picture"), { src: data.picture, alt: data.alt });
  Object.assign(part("colours"), { src: data.colours, alt: "" });
  part("caption").textContent = data.caption;
  part("toggle").disabled = part("opacity").disabled = !data.heat;
  if (data.heat) {
    Object.assign(heat, { src: data.heat, alt: data.shows });
    const [left, top, right, bottom] = data.box;
    Object.assign(square.style, {
      left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * (right - left)}%`, height: `${100 * (bottom - top)}%`,
    });
  }

  const fingers = new Map();
  const keys = {
    "+": () => zoom(STEP), "=": () => zoom(STEP), "-": () => zoom(1 / STEP), 0: () => zoom(0), h: toggle,
    ArrowLeft: () => pan(PAN_PX, 0), ArrowRight: () => pan(-PAN_PX, 0),
    ArrowUp: () => pan(0, PAN_PX), ArrowDown: () => pan(0, -PAN_PX),
  };
  stage.onkeydown = (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? null : keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  };
  // Without the focus, or Ctrl, a wheel scrolls the page: a picture must not catch it in passing.
  stage.onwheel = (event) => {
    if (!event.ctrlKey && document.activeElement !== stage) return;
    event.preventDefault();
    zoom(STEP ** (-event.deltaY / 100), ...at(event));
  };
  stage.ondblclick = (event) => zoom(state.zoom > 1 ? 0 : CLICK, ...at(event));
  stage.onpointerdown = (event) => {
    stage.setPointerCapture(event.pointerId);
    stage.focus({ preventScroll: true });
    fingers.set(event.pointerId, at(event));
    stage.classList.add("viewer-held");
  };
  stage.onpointermove = (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = at(event), other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, now);
    pan((now[0] - before[0]) / fingers.size, (now[1] - before[1]) / fingers.size);
    const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
    if (other) zoom(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  };
  stage.onpointerup = stage.onpointercancel = (event) => {
    fingers.delete(event.pointerId);
    stage.classList.toggle("viewer-held", fingers.size > 0);
  };
  part("toggle").onclick = toggle;
  part("in").onclick = () => zoom(STEP);
  part("out").onclick = () => zoom(1 / STEP);
  part("fit").onclick = () => zoom(0);
  part("opacity").oninput = (event) => { state.opacity = event.target.valueAsNumber; state.shown = true; lay(); };
  part("opacity").onchange = () => setStateValue("opacity", state.opacity);

  const resized = new ResizeObserver(place);
  resized.observe(stage);
  place();
  lay();
  return () => resized.disconnect();
}
