/* What the example uses of the Arduino core for the ESP8266, declared as the core declares it: the sketch is compiled against this
 * where the core itself is not there. */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HIGH 0x1
#define LOW 0x0
#define OUTPUT 0x01
#define INPUT_PULLUP 0x02
#define LED_BUILTIN 2
static const uint8_t A0 = 17;

extern "C" {
void pinMode(uint8_t pin, uint8_t mode);
void digitalWrite(uint8_t pin, uint8_t value);
int digitalRead(uint8_t pin);
int analogRead(uint8_t pin);
uint64_t micros64(void);
void delay(unsigned long ms);
char *dtostrf(double value, signed char width, unsigned char precision, char *out);
size_t strlcpy(char *to, const char *from, size_t size);
}

class EspClass {
 public:
  bool flashEraseSector(uint32_t sector);
  bool flashWrite(uint32_t address, const uint32_t *data, size_t size);
  bool flashRead(uint32_t address, uint32_t *data, size_t size);
};
extern EspClass ESP;

void setup();
void loop();

#endif
