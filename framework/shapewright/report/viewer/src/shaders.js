// GLSL of the views. Faces are shaded flat from screen derivatives: extraction artefacts stay visible as they are.

export const FACE_VERTEX = `#version 300 es
in vec3 position;
in float error;
uniform mat4 modelView, projection;
out vec3 seen;
out float level;
void main() {
  vec4 p = modelView * vec4(position, 1.0);
  seen = p.xyz;
  level = error;
  gl_Position = projection * p;
}`;

const LIGHT = `
float lightOn(vec3 seen) {
  vec3 normal = normalize(cross(dFdx(seen), dFdy(seen)));
  float key = max(dot(normal, normalize(vec3(-0.35, 0.55, 0.75))), 0.0);
  float fill = max(dot(normal, normalize(vec3(0.7, -0.1, 0.4))), 0.0);
  return 0.34 + 0.6 * key + 0.16 * fill;
}`;

export const FACE_FRAGMENT = `#version 300 es
precision highp float;
in vec3 seen;
in float level;
uniform bool showErrors, showBack;
uniform float coarsest, decades, stepsPerDecade, pixel;
uniform vec3 frontColor, backColor;
out vec4 color;
${LIGHT}

// Viridis between nine of its colours: lightness rises all the way, so it reads in grey.
vec3 viridis(float t) {
  const vec3 stops[9] = vec3[9](
    vec3(0.267, 0.005, 0.329),
    vec3(0.279, 0.175, 0.483),
    vec3(0.230, 0.322, 0.546),
    vec3(0.173, 0.449, 0.558),
    vec3(0.128, 0.567, 0.551),
    vec3(0.158, 0.684, 0.502),
    vec3(0.369, 0.789, 0.383),
    vec3(0.678, 0.864, 0.190),
    vec3(0.993, 0.906, 0.144));
  float place = t * 8.0;
  int below = min(int(place), 7);
  return mix(stops[below], stops[below + 1], place - float(below));
}

void main() {
  float light = lightOn(seen);
  vec3 base = frontColor;
  if (showErrors) {
    float place = level * 255.0 / stepsPerDecade - 6.0;  // log10 of the distance
    float t = clamp((place - coarsest + decades) / decades, 0.0, 1.0);
    base = viridis(t);
    light = 0.62 + 0.42 * light;
    float edge = abs(fract(place + 0.5) - 0.5) / max(fwidth(place), 1e-5);  // a line at every power of ten
    bool inside = place > coarsest - decades - 0.2 && place < coarsest + 0.2 && fwidth(place) < 0.15;
    if (inside) base = mix(vec3(t > 0.6 ? 0.0 : 1.0), base, clamp(edge / 1.2 - 0.1, 0.25, 1.0));
  }
  if (!gl_FrontFacing && showBack) {
    float stripe = mod(gl_FragCoord.x + gl_FragCoord.y, 9.0 * pixel) / pixel;
    base = showErrors ? base * (stripe < 3.0 ? 0.35 : 1.0) : backColor * (stripe < 3.0 ? 0.62 : 1.0);
  }
  color = vec4(base * light, 1.0);
}`;

export const PAINT_VERTEX = `#version 300 es
in vec3 position;
in vec2 uv;
in vec4 tint;
uniform mat4 modelView, projection;
out vec3 seen;
out vec2 place;
out vec4 corner;
void main() {
  vec4 p = modelView * vec4(position, 1.0);
  seen = p.xyz;
  place = uv;
  corner = tint;
  gl_Position = projection * p;
}`;

// Colours are sRGB as in the files: lit in linear light, mixed as they are shown.
export const PAINT_FRAGMENT = `#version 300 es
precision highp float;
in vec3 seen;
in vec2 place;
in vec4 corner;
uniform sampler2D picture;
uniform bool opaque, solid, showBack;
uniform float least, most, pixel;  // alpha that is drawn
out vec4 color;
${LIGHT}

vec3 toLinear(vec3 c) { return mix(c / 12.92, pow((c + 0.055) / 1.055, vec3(2.4)), step(0.04045, c)); }
vec3 toSrgb(vec3 c) { return mix(c * 12.92, 1.055 * pow(c, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, c)); }

void main() {
  vec4 texel = texture(picture, place);
  float light = lightOn(seen);
  vec3 base = clamp(texel.a > 0.0 ? texel.rgb / texel.a : vec3(0.0), 0.0, 1.0) * corner.rgb;
  float alpha = opaque ? 1.0 : texel.a * corner.a;
  if (alpha < least || alpha >= most) discard;
  vec3 lit = toSrgb(clamp(toLinear(base) * light, 0.0, 1.0));
  float stripe = mod(gl_FragCoord.x + gl_FragCoord.y, 9.0 * pixel) / pixel;
  if (!gl_FrontFacing && showBack && stripe < 3.0) lit *= 0.35;
  if (solid) alpha = 1.0;
  color = vec4(lit * alpha, alpha);
}`;

// An edge is a ribbon of constant width on the screen.
export const EDGE_VERTEX = `#version 300 es
in vec3 start, end;
in vec2 corner;
uniform mat4 modelView, projection;
uniform vec2 size;
uniform float width;
out float along;
void main() {
  vec4 a = projection * (modelView * vec4(start, 1.0)), b = projection * (modelView * vec4(end, 1.0));
  vec2 from = a.xy / a.w * size, to = b.xy / b.w * size;
  float span = length(to - from);
  vec2 along2 = span > 1e-6 ? (to - from) / span : vec2(1.0, 0.0);
  vec4 p = mix(a, b, corner.x);
  p.xy += (vec2(-along2.y, along2.x) * corner.y + along2 * (corner.x * 2.0 - 1.0) * 0.5) * width / size * p.w;
  p.z -= 0.0012 * p.w;
  along = corner.x * span * 0.5;
  gl_Position = p;
}`;

export const EDGE_FRAGMENT = `#version 300 es
precision highp float;
in float along;
uniform vec3 edgeColor;
out vec4 color;
void main() { color = vec4(edgeColor, 1.0); }`;
