//! The camera, what it sees, and what disturbs it.

use tubelet_engine::Philox;

use super::texture::{Canvas, colour};

/// Where the camera looks, by time.
pub(super) struct Camera {
    centre: [f32; 2],
    /// Canvas pixels per image pixel half way, and angle at the first frame.
    scale: f32,
    angle: f32,
    /// Per frame: shift in image pixels, logarithm of the scale, angle.
    shift: [f32; 2],
    zoom: f32,
    roll: f32,
    /// The time half way.
    middle: f32,
}

impl Camera {
    /// A camera of a class: at least 0.6 pixels of motion per frame, on average over the image, so that the label shows.
    pub fn draw(rng: &mut Philox, class: usize, frames: usize, [height, width]: [usize; 2]) -> Self {
        let mut camera = Camera {
            centre: [500.0 * rng.uniform(), 500.0 * rng.uniform()],
            scale: 0.7 + 0.6 * rng.uniform(),
            angle: std::f32::consts::TAU * rng.uniform(),
            shift: [0.0; 2],
            zoom: 0.0,
            roll: 0.0,
            middle: middle(frames),
        };
        let speed = 0.6 + 1.9 * rng.uniform();
        // The mean distance from the centre of an image is about 0.38 of its side.
        let rate = (speed / (0.38 * height.min(width) as f32)).min(0.12);
        match class {
            1 => camera.shift[0] = -speed,
            2 => camera.shift[0] = speed,
            3 => camera.shift[1] = -speed,
            4 => camera.shift[1] = speed,
            5 => camera.zoom = -rate,
            6 => camera.zoom = rate,
            7 => camera.roll = rate,
            8 => camera.roll = -rate,
            _ => {}
        }
        camera
    }

    /// The canvas point at an image point (from its centre), as an affine map: origin, and steps along x and y. Half way the scale is that of any
    /// other class, so that the frame in the middle tells nothing; at the ends a zoom has to be as far in, or out, as it will have gone.
    fn view(&self, t: f32) -> [[f32; 2]; 3] {
        let scale = self.scale * (self.zoom * (t - self.middle)).exp();
        let (sin, cos) = (self.angle + self.roll * t).sin_cos();
        let turn = |x: f32, y: f32| [scale * (cos * x - sin * y), scale * (sin * x + cos * y)];
        let moved = turn(self.shift[0] * t, self.shift[1] * t);
        [[self.centre[0] + moved[0], self.centre[1] + moved[1]], turn(1.0, 0.0), turn(0.0, 1.0)]
    }
}

/// The time half way through a clip: of an even number of frames it lies between two.
pub(super) fn middle(frames: usize) -> f32 {
    0.5 * frames.saturating_sub(1) as f32
}

/// A disc of one colour that moves on its own.
struct Object {
    at: [f32; 2],
    velocity: [f32; 2],
    radius: f32,
    paint: [f32; 3],
}

/// Everything in front of the camera.
pub(super) struct Scene {
    canvas: Canvas,
    objects: Vec<Object>,
    size: [usize; 2],
    /// Brightness at the first frame, and its change per frame.
    light: [f32; 2],
    noise: f32,
}

impl Scene {
    pub fn draw(rng: &mut Philox, canvas: Canvas, frames: usize, size: [usize; 2]) -> Self {
        let [height, width] = size.map(|n| n as f32);
        let side = height.min(width);
        let object = |rng: &mut Philox| Object {
            at: [width * rng.uniform(), height * rng.uniform()],
            velocity: [4.0 * rng.uniform() - 2.0, 4.0 * rng.uniform() - 2.0],
            radius: side * (0.06 + 0.08 * rng.uniform()),
            paint: colour(rng),
        };
        let objects = (0..rng.below(4)).map(|_| object(rng)).collect();
        let light = [0.8 + 0.3 * rng.uniform(), (0.4 * rng.uniform() - 0.2) / frames as f32];
        Scene { canvas, objects, size, light, noise: 16.0 * rng.uniform() * rng.uniform() }
    }

    /// Appends the frame at time `t`, `[H, W, 3]`.
    pub fn render(&self, rng: &mut Philox, camera: &Camera, t: f32, out: &mut Vec<u8>) {
        let [height, width] = self.size;
        let [origin, dx, dy] = camera.view(t);
        let light = self.light[0] + self.light[1] * t;
        let centre = [0.5 * (width as f32 - 1.0), 0.5 * (height as f32 - 1.0)];
        let objects: Vec<([f32; 2], &Object)> =
            self.objects.iter().map(|o| ([0, 1].map(|d| o.at[d] + o.velocity[d] * t), o)).collect();
        for y in 0..height {
            for x in 0..width {
                let (u, v) = (x as f32 - centre[0], y as f32 - centre[1]);
                let mut pixel = self.canvas.at(origin[0] + u * dx[0] + v * dy[0], origin[1] + u * dx[1] + v * dy[1]);
                for (at, object) in &objects {
                    let cover = (object.radius + 0.5 - (x as f32 - at[0]).hypot(y as f32 - at[1])).clamp(0.0, 1.0);
                    if cover > 0.0 {
                        (0..3).for_each(|c| pixel[c] += cover * (object.paint[c] - pixel[c]));
                    }
                }
                let bits = rng.next_u32();
                for (c, value) in pixel.into_iter().enumerate() {
                    // Uniform noise of ±`noise`, eight bits a channel.
                    let noise = ((bits >> (8 * c)) & 255) as f32 / 127.5 - 1.0;
                    out.push((light * value + self.noise * noise).round().clamp(0.0, 255.0) as u8);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a single frame could read: how large a canvas pixel is.
    fn scale(class: usize, frames: usize, t: f32) -> f32 {
        let camera = Camera::draw(&mut Philox::new(5), class, frames, [32, 32]);
        let [_, [x, y], _] = camera.view(t);
        x.hypot(y)
    }

    #[test]
    fn the_middle_has_the_same_scale_in_every_class() {
        for frames in [1, 7, 8] {
            let own = scale(0, frames, middle(frames));
            assert!((1..9).all(|class| (scale(class, frames, middle(frames)) - own).abs() < 1e-6 * own));
        }
        // And a zoom is a zoom: in, the canvas comes closer.
        assert!(scale(5, 8, 7.0) < scale(5, 8, 0.0) && scale(6, 8, 7.0) > scale(6, 8, 0.0));
    }
}
