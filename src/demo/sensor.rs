//! A few devices of a plant, simulated, publishing at a broker.
//!
//! Each device has a climate that drifts within [`NORMAL_CELSIUS`]. Every now and then one of
//! them runs hot, beyond [`HOT_CELSIUS`], for the first time within the first three seconds. The
//! same seed gives the same readings.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::mqtt::{self, Event, Outgoing, Properties, Qos, Settings};

/// Where temperatures are as long as all is well.
pub const NORMAL_CELSIUS: RangeInclusive<f64> = 55.0..=75.0;
/// What a device that runs hot goes beyond.
pub const HOT_CELSIUS: f64 = 80.0;
/// The time between two readings, of any device.
pub const PERIOD: Duration = Duration::from_millis(50);

const DEVICES: [&str; 5] = ["press-1", "press-2", "press-3", "oven-1", "oven-2"];
/// Readings between the starts of two hot spells, and how far into it the first one starts.
const SPELL_EVERY: u64 = 300;
const SPELL_FIRST: u64 = 20;
/// Readings of one device in a hot spell.
const SPELL_READINGS: u64 = 12;

/// One reading of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Which device.
    pub device: &'static str,
    /// Degrees, to a tenth.
    pub temperature: f64,
    /// Percent, to a tenth.
    pub humidity: f64,
}

/// The devices, giving readings in turn.
#[derive(Clone, Debug)]
pub struct Plant {
    random: u64,
    count: u64,
    climate: [(f64, f64); DEVICES.len()],
}

impl Plant {
    /// Devices whose readings `seed` determines.
    #[must_use]
    pub fn new(seed: u64) -> Plant {
        let mut plant = Plant {
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            count: 0,
            climate: [(65.0, 45.0); DEVICES.len()],
        };
        for index in 0..DEVICES.len() {
            let start = (62.0 + 6.0 * plant.random(), 40.0 + 10.0 * plant.random());
            if let Some(climate) = plant.climate.get_mut(index) {
                *climate = start;
            }
        }
        plant
    }

    /// Between 0 and 1; xorshift64* (Vigna, 2016).
    fn random(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        f64::from(u32::try_from(bits).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
    }
}

impl Iterator for Plant {
    type Item = Reading;

    fn next(&mut self) -> Option<Reading> {
        let devices = u64::try_from(DEVICES.len()).ok()?;
        let index = usize::try_from(self.count % devices).ok()?;
        let into = (self.count + SPELL_EVERY - SPELL_FIRST) % SPELL_EVERY;
        let spell = (self.count + SPELL_EVERY - SPELL_FIRST) / SPELL_EVERY;
        // Another device each time, from the third on.
        let runs_hot = spell > 0 && (spell + 1) % devices == self.count % devices;
        self.count += 1;
        let drift = (self.random() - 0.5, self.random() - 0.5);
        let climate = self.climate.get_mut(index)?;
        climate.0 = (climate.0 + drift.0).clamp(*NORMAL_CELSIUS.start(), *NORMAL_CELSIUS.end());
        climate.1 = (climate.1 + drift.1).clamp(25.0, 70.0);
        let (mut temperature, humidity) = *climate;
        if runs_hot && into < SPELL_READINGS * devices {
            temperature = HOT_CELSIUS + 2.0 + 8.0 * drift.0.abs() + temperature / 20.0;
        }
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        Some(Reading {
            device: DEVICES.get(index)?,
            temperature: tenth(temperature),
            humidity: tenth(humidity),
        })
    }
}

/// Publishes readings to `plant/<device>/climate` until told to stop, with QoS 1, about twenty in
/// a second; connects again when the broker goes away.
pub async fn run(broker: SocketAddr, seed: u64, mut stop: watch::Receiver<bool>) {
    let host = match broker {
        SocketAddr::V4(at) => at.ip().to_string(),
        SocketAddr::V6(at) => format!("[{}]", at.ip()),
    };
    let settings = Settings::plain(host, broker.port(), "eventflux-demo-sensor");
    let mut plant = Plant::new(seed);
    while !*stop.borrow() {
        publish(&settings, &mut plant, &mut stop).await;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = sleep(Duration::from_millis(200)) => {}
        }
    }
}

/// One connection.
async fn publish(settings: &Settings, plant: &mut Plant, stop: &mut watch::Receiver<bool>) {
    let Some(broker) = settings.brokers.first() else {
        return;
    };
    let Ok((handle, mut connection)) = mqtt::connect(settings, broker) else {
        return;
    };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_connected = false;
    loop {
        let mut poll = pin!(connection.next());
        loop {
            tokio::select! {
                event = &mut poll => match event {
                    Ok(event) => {
                        is_connected |= matches!(event, Event::Connected(_));
                        break;
                    }
                    Err(error) => {
                        tracing::debug!("the simulated sensor is not connected: {error}");
                        return;
                    }
                },
                _ = stop.wait_for(|stop| *stop) => {
                    // The broker needs no farewell from a clean session.
                    return;
                }
                _ = ticks.tick(), if is_connected => {
                    let Some(reading) = plant.next() else { return };
                    let topic = format!("plant/{}/climate", reading.device);
                    let payload = format!(
                        "{{\"device\":\"{}\",\"temperature\":{:.1},\"humidity\":{:.1}}}",
                        reading.device, reading.temperature, reading.humidity
                    );
                    let _ = handle.publish(Outgoing {
                        topic: &topic,
                        payload: payload.as_bytes(),
                        retain: false,
                        qos: Qos::AtLeastOnce,
                        properties: Properties::default(),
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_runs_hot_within_three_seconds() {
        for seed in 0..200 {
            let readings: Vec<Reading> = Plant::new(seed).take(60).collect();
            let hot = readings.iter().filter(|r| r.temperature > HOT_CELSIUS);
            assert!(hot.count() >= 5, "seed {seed}");
            assert!(
                readings
                    .iter()
                    .take(15)
                    .all(|r| NORMAL_CELSIUS.contains(&r.temperature))
            );
            assert_eq!(readings, Plant::new(seed).take(60).collect::<Vec<_>>());
        }
    }

    #[test]
    fn hot_spells_come_back_at_other_devices() {
        let hot = Plant::new(7)
            .take(3_000)
            .filter(|r| r.temperature > HOT_CELSIUS);
        let devices: std::collections::BTreeSet<&str> = hot.map(|r| r.device).collect();
        assert_eq!(devices.len(), DEVICES.len());
    }
}
