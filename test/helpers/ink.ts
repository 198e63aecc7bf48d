/** What a chart has drawn. */
import type { Locator } from "playwright-core";

/** How many pixels of each column of a chart have a colour of the style sheet; the columns begin where its lines do. */
export const inkByColumn = (card: Locator, name: string): Promise<number[]> =>
  card.locator("canvas").evaluate((canvas: HTMLCanvasElement, variable: string) => {
    const probe = document.createElement("span");
    probe.style.color = `var(${variable})`;
    document.body.append(probe);
    const [r, g, b] = getComputedStyle(probe).color.match(/\d+/g)!.map(Number) as [number, number, number];
    probe.remove();
    const { left, width } = canvas.parentElement!.querySelector(".u-over")!.getBoundingClientRect();
    const from = Math.round(left - canvas.getBoundingClientRect().left);
    const { data } = canvas.getContext("2d")!.getImageData(from, 0, Math.round(width), canvas.height);
    const columns = Array.from({ length: Math.round(width) }, () => 0);
    for (let i = 0; i < data.length; i += 4)
      if (
        Math.abs(data[i]! - r) + Math.abs(data[i + 1]! - g) + Math.abs(data[i + 2]! - b) < 30 &&
        data[i + 3]! > 200
      )
        columns[(i / 4) % columns.length]!++;
    return columns;
  }, name);
