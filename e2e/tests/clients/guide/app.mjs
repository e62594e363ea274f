// An app: shows each reading that its owners allow, and turns the heater on where it is colder than 20 degrees.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

// In a project of your own: import mqtt from 'mqtt'
const mqtt = createRequire(`${process.cwd()}/package.json`)('mqtt')

const { GATEWAY_HOST, GATEWAY_PORT, ACCESS_TOKEN, CA_FILE } = process.env
const client = mqtt.connect(`mqtts://${GATEWAY_HOST}:${GATEWAY_PORT}`, {
  protocolVersion: 5,
  username: 'Bearer',
  password: ACCESS_TOKEN,
  // The authority that the gateway's operator names; without it, those that Node trusts.
  ca: CA_FILE && readFileSync(CA_FILE),
})

client.on('connect', () => {
  // Everything that this token may see.
  client.subscribe('d/#', { qos: 1 }, (error) => console.log(error ? `refused: ${error.message}` : 'listening'))
})

client.on('message', (topic, payload) => {
  console.log(topic, payload.toString())
  const [, handle, ...channel] = topic.split('/')
  if (channel.join('/') === 'temperature' && Number(payload) < 20) {
    client.publish(`c/${handle}/heater`, 'true', { qos: 1 })
  }
})

// A token that has ended is refused for good: fetch a new one, do not knock on.
client.on('error', (error) => {
  console.error(`the gateway says: ${error.message}`)
  client.end()
})
