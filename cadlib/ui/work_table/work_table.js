// The work list as a table. Arrow keys move between rows, Enter opens one, and the keys 1 to 4 set its state.
export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".work");
  const part = (name) => root.querySelector(`.work-${name}`);
  const body = root.querySelector("tbody");

  const element = (tag, className, text = "") => {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = text;
    return made;
  };
  const cell = (...content) => {
    const made = document.createElement("td");
    made.append(...content);
    return made;
  };
  const percent = (share) => `${100 * share}%`;

  const risk = ({ probability, low, high, threshold, hue, risk_text }) => {
    const whole = element("div", `work-risk work-${hue}`);
    whole.append(element("span", "work-number", risk_text));
    if (probability === null) return whole;
    const track = element("span", "work-track");
    const fill = element("span", "work-bar-fill");
    fill.style.width = percent(probability);
    track.append(fill);
    if (low !== null) {
      const band = element("span", "work-band");
      Object.assign(band.style, { left: percent(low), width: percent(high - low) });
      track.append(band);
    }
    const limit = element("span", "work-limit");
    limit.style.left = percent(threshold);
    track.append(limit);
    whole.append(track);
    return whole;
  };
  const row = (item) => {
    const made = document.createElement("tr");
    made.dataset.image = item.image;
    const picture = item.picture
      ? Object.assign(new Image(), { src: item.picture, alt: "", className: "work-picture" })
      : element("span", "work-gray", "no image");
    const open = element("button", "work-open", item.patient);
    open.type = "button";
    made.onclick = () => setTriggerValue("opened", item.image);
    const top = element("span", "", item.diagnosis);
    const doubt = element("span", "work-doubt", item.doubt);
    made.append(
      cell(picture), cell(open), cell(item.lesion), cell(risk(item)), cell(top, doubt), cell(item.state), cell(item.added),
    );
    return made;
  };

  // The row that has the focus keeps it when the list is drawn again.
  const focused = body.contains(document.activeElement) ? document.activeElement.closest("tr") : null;
  const place = focused ? [...body.rows].indexOf(focused) : -1;
  body.replaceChildren(...data.rows.map(row));
  const buttons = [...body.querySelectorAll(".work-open")];
  if (place >= 0 && buttons.length) {
    const same = buttons.find((button) => button.closest("tr").dataset.image === focused.dataset.image);
    (same ?? buttons[Math.min(place, buttons.length - 1)]).focus();
  }

  body.onkeydown = (event) => {
    const current = buttons.indexOf(document.activeElement);
    if (current < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      buttons[Math.min(buttons.length - 1, Math.max(0, current + step))].focus();
    } else if (data.states[Number(event.key) - 1]) {
      const image = buttons[current].closest("tr").dataset.image;
      setTriggerValue("marked", { image, state: data.states[Number(event.key) - 1] });
    } else {
      return;
    }
    event.preventDefault();
  };
  const previous = part("previous"), next = part("next");
  previous.disabled = data.page <= 1;
  next.disabled = data.page >= data.pages;
  previous.onclick = () => setTriggerValue("turned", data.page - 1);
  next.onclick = () => setTriggerValue("turned", data.page + 1);
  part("page").textContent = data.about;
}
