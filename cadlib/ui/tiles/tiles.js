// Pictures in pages of tiles. While a reader looks at one page the browser asks for the next, so that to turn waits for
// nobody. The server sends the page that was asked for last; `of` tells one list of pictures from another.
const KEPT = 8;

export default function ({ parentElement, data, setStateValue, setTriggerValue }) {
  const root = parentElement.querySelector(".tiles");
  const part = (name) => root.querySelector(`.tiles-${name}`);
  const previous = part("previous"), next = part("next"), number = part("page"), grid = part("grid");
  if (root.state?.of !== data.of) root.state = { of: data.of, shown: data.shown, pages: new Map() };
  const state = root.state;
  if (data.page && !state.pages.has(data.page)) state.pages.set(data.page, data.tiles);
  for (const page of state.pages.keys()) {
    if (state.pages.size > KEPT && Math.abs(page - state.shown) > 1) state.pages.delete(page);  // the oldest first
  }

  const told = (name, text) => {
    const line = document.createElement("span");
    line.className = `tiles-${name}`;
    line.textContent = text;
    return line;
  };
  const tile = ({ image, picture, why, sign, hue, label, alt }) => {
    const whole = document.createElement("button");
    Object.assign(whole, { type: "button", className: "tiles-tile", onclick: () => setTriggerValue("opened", image) });
    whole.dataset.image = image;
    const shown = picture ? Object.assign(new Image(), { src: picture, alt, decoding: "sync" }) : told("why", why);
    if (picture) shown.className = "tiles-picture";
    const words = told("label", label);
    words.prepend(told(hue, sign), " ");
    whole.append(shown, words, told("image", image));
    return whole;
  };
  const draw = () => {
    const tiles = state.pages.get(state.shown);
    if (document.activeElement !== number) number.value = state.shown;  // nothing overwrites what is being typed
    previous.disabled = state.shown <= 1;
    next.disabled = state.shown >= data.pages;
    grid.classList.toggle("tiles-waiting", !tiles);
    if (!tiles || root.drawn === tiles) return;
    root.drawn = tiles;
    grid.replaceChildren(...tiles.map(tile));
  };
  const ask = () => {
    const wanted = [state.shown, state.shown + 1].find((page) => page <= data.pages && !state.pages.has(page)) ?? null;
    const told = state.told ?? { page: null, shown: data.shown };
    if (told.shown === state.shown && (wanted === null || wanted === told.page)) return;
    state.told = { of: data.of, page: wanted, shown: state.shown };
    setStateValue("wants", state.told);
  };
  const turn = (page) => {
    number.value = state.shown = Math.min(data.pages, Math.max(1, Math.round(page) || state.shown));
    draw();
    ask();
  };

  Object.assign(number, { max: data.pages, onchange: () => turn(number.valueAsNumber) });
  previous.onclick = () => turn(state.shown - 1);
  next.onclick = () => turn(state.shown + 1);
  part("of").textContent = `of ${data.pages.toLocaleString("en")}`;
  part("about").textContent = data.about;
  root.classList.toggle("tiles-alone", data.pages === 1);
  draw();
  ask();
}
