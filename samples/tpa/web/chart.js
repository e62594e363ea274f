/** A small line chart as SVG. `layout` is pure; `draw` puts it on the page. */

const NAMESPACE = 'http://www.w3.org/2000/svg';
const PAD = { left: 44, right: 10, top: 10, bottom: 22 };
/** The time axis never spans less, so that the first seconds do not jump. Milliseconds. */
const SHORTEST = 60_000;

/**
 * Where everything goes.
 * @param {{time: number, value: number, spread?: number}[]} points oldest first, at least one
 * @param {{from: number, to: number}[]} spans shaded times (the heater was on)
 */
export function layout(points, spans, now, width, height) {
  const begin = Math.min(points[0].time, now - SHORTEST);
  const values = points.flatMap(({ value, spread = 0 }) => [value - spread, value + spread]);
  const middle = (Math.min(...values) + Math.max(...values)) / 2;
  const half = Math.max((Math.max(...values) - Math.min(...values)) / 2, 0.5) * 1.15;
  const [low, high] = [middle - half, middle + half];
  const x = (time) => PAD.left + ((Math.max(time, begin) - begin) / (now - begin)) * (width - PAD.left - PAD.right);
  const y = (value) => PAD.top + ((high - value) / (high - low)) * (height - PAD.top - PAD.bottom);
  const round = (number) => Math.round(number * 10) / 10;
  const step = [0.2, 0.5, 1, 2, 5, 10, 20, 50].find((size) => (high - low) / size <= 4) ?? (high - low) / 3;
  const ticks = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) ticks.push({ y: round(y(value)), text: value.toFixed(step < 1 ? 1 : 0) });
  const seconds = Math.round((now - begin) / 1000);
  const edge = (sign) => points.map(({ time, value, spread = 0 }) => `${round(x(time))},${round(y(value + sign * spread))}`);
  return {
    band: points.length > 1 && points.some((point) => point.spread > 0) ? [...edge(1), ...edge(-1).reverse()].join(' ') : '',
    line: points.map((point) => `${round(x(point.time))},${round(y(point.value))}`).join(' '),
    end: { x: round(x(points.at(-1).time)), y: round(y(points.at(-1).value)) },
    ticks,
    spans: spans.filter((span) => span.to > begin).map((span) => ({ x: round(x(span.from)), width: round(x(span.to) - x(span.from)) })),
    begin: seconds >= 7200 ? `${Math.round(seconds / 3600)} h ago` : seconds >= 90 ? `${Math.round(seconds / 60)} min ago` : `${seconds} s ago`,
    frame: { left: PAD.left, right: width - PAD.right, top: PAD.top, bottom: height - PAD.bottom },
  };
}

/** Draws into `place`; `label` is what a person hears who cannot see it. */
export function draw(place, points, spans, now, label) {
  const width = Math.max(place.clientWidth, 200);
  const height = 160;
  const { line, band, end, ticks, spans: shaded, begin, frame } = layout(points, spans, now, width, height);
  const make = (name, attributes, text) => {
    const element = document.createElementNS(NAMESPACE, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const svg = make('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': label });
  for (const span of shaded) {
    svg.append(make('rect', { class: 'on', x: span.x, y: frame.top, width: Math.max(span.width, 1), height: frame.bottom - frame.top }));
  }
  for (const tick of ticks) {
    svg.append(make('line', { class: 'grid', x1: frame.left, x2: frame.right, y1: tick.y, y2: tick.y }));
    svg.append(make('text', { x: frame.left - 8, y: tick.y + 4, 'text-anchor': 'end' }, tick.text));
  }
  if (band) svg.append(make('polygon', { class: 'band', points: band }));
  svg.append(make('polyline', { class: 'line', points: line }));
  svg.append(make('circle', { class: 'end', cx: end.x, cy: end.y, r: 4 }));
  svg.append(make('text', { x: frame.left, y: height - 4 }, begin));
  svg.append(make('text', { x: frame.right, y: height - 4, 'text-anchor': 'end' }, 'now'));
  place.replaceChildren(svg);
}
