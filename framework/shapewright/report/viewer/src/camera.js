// Turning and zooming by mouse, touch and keyboard. All views that share a camera turn together.

const TURN = Math.PI / 16;

export class Camera {
  /** `radius`: of a ball around the origin that should fit. */
  constructor(onchange, radius) {
    Object.assign(this, { onchange, radius });
    this.home();
  }

  home() {
    Object.assign(this, { yaw: -0.6, pitch: 0.4, zoom: 1 });
  }

  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.min(Math.max(this.pitch + pitch, -Math.PI / 2), Math.PI / 2);
    this.onchange();
  }

  scale(factor) {
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.3), 40);
    this.onchange();
  }

  /** Let an element steer: drag, pinch, wheel while it has the focus, arrow keys, plus, minus and Home. */
  steer(element) {
    const fingers = new Map();
    const gap = () => {
      const [a, b] = [...fingers.values()];
      return Math.hypot(a.x - b.x, a.y - b.y);
    };
    element.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      const last = fingers.get(event.pointerId);
      if (!last) return;
      const before = fingers.size === 2 ? gap() : 0;
      const [x, y] = [event.clientX - last.x, event.clientY - last.y];
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (before) this.scale(gap() / before);
      else this.turn(x * 0.01, y * 0.01);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      element.addEventListener(end, (event) => fingers.delete(event.pointerId));
    }
    element.addEventListener(
      "wheel",
      (event) => {
        if (document.activeElement !== element && !event.ctrlKey) return; // the page scrolls
        event.preventDefault();
        this.scale(Math.exp(-event.deltaY * 0.0015));
      },
      { passive: false },
    );
    element.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const action = {
        ArrowLeft: () => this.turn(-TURN, 0),
        ArrowRight: () => this.turn(TURN, 0),
        ArrowUp: () => this.turn(0, -TURN),
        ArrowDown: () => this.turn(0, TURN),
        "+": () => this.scale(1.2),
        "=": () => this.scale(1.2),
        "-": () => this.scale(1 / 1.2),
        Home: () => {
          this.home();
          this.onchange();
        },
      }[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    });
  }
}
