/** The Monitor page as somebody who looks at it sees it. */

import { type BrowserContext, expect, type Locator, type Page } from "@playwright/test";

export class Monitor {
  readonly state: Locator;
  readonly banner: Locator;
  readonly countdown: Locator;
  readonly retry: Locator;
  readonly cards: Locator;
  readonly connection: Locator;

  constructor(readonly page: Page) {
    this.state = page.locator("[data-connection-state]");
    this.banner = page.locator(".pulsetrail-banner");
    this.countdown = this.banner.getByRole("timer");
    this.retry = this.banner.getByRole("button", { name: "Retry" });
    this.cards = page.locator("[data-card]:not([data-card=connection])");
    this.connection = page.locator("[data-card=connection]");
  }

  static async open(context: BrowserContext, origin: string): Promise<Monitor> {
    const monitor = new Monitor(await context.newPage());
    await monitor.page.goto(`${origin}/monitor`);
    return monitor;
  }

  /** Wait until it is connected; returns its connection's id. */
  async connected(patience = 20_000): Promise<string> {
    await expect(this.state).toHaveAttribute("data-connection-state", "live", { timeout: patience });
    return this.connectionId();
  }

  /** Wait until it is connected and nothing that it shows is out of date; returns its connection's id. */
  async live(patience = 20_000): Promise<string> {
    await this.connected(patience);
    await expect(this.state).toHaveAttribute("data-stale", "false", { timeout: patience });
    return this.connectionId();
  }

  /** The same with another connection than the one before. */
  async liveAgain(before: string, patience = 20_000): Promise<string> {
    await this.connectedAgain(before, patience);
    return this.live(patience);
  }

  /** Wait until a connection is there other than the one before. */
  async connectedAgain(before: string, patience = 20_000): Promise<string> {
    await expect(this.fact("Connection id")).not.toHaveText(before, { timeout: patience });
    return this.connected(patience);
  }

  async connectionId(): Promise<string> {
    const id = (await this.fact("Connection id").textContent({ timeout: 5_000 })) ?? "";
    expect(id).toMatch(/^[0-9a-f]{8}-/);
    return id;
  }

  /** What the page says of its own connection. */
  fact(name: string): Locator {
    return this.connection
      .locator("dl > div")
      .filter({ has: this.page.getByText(name, { exact: true }) })
      .locator("dd");
  }

  /** Begin to note what the banner is; the notes are read with {@link bannerNotes}. */
  async noteBanner(): Promise<void> {
    await this.page.evaluate(() => {
      const notes: string[] = [];
      const look = () => {
        const state = document.querySelector<HTMLElement>(".pulsetrail-banner")?.dataset.state ?? "absent";
        if (notes.at(-1) !== state) notes.push(state);
      };
      look();
      new MutationObserver(look).observe(document.body, { attributes: true, childList: true, subtree: true });
      Object.assign(window, { bannerNotes: notes });
    });
  }

  /** Every state that the banner was in, in order. */
  async bannerNotes(): Promise<string[]> {
    return this.page.evaluate(() => (window as unknown as { bannerNotes: string[] }).bannerNotes);
  }
}
